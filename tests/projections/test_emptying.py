"""Emptying the models of a projection changes no row of another model, or is refused before anything is done."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models, transaction
from django.db.models.signals import pre_delete
from django.test.utils import isolate_apps

from es_django.errors import ProjectionStatusError
from es_django.projections import run_projection, start_rebuild
from es_django.projections.emptying import blocking_foreign_keys, empty, obstacles, tables_of
from tests.projections.effects import Effects, checkpoint, count, effects

pytestmark = pytest.mark.django_db(transaction=True)

Models = dict[str, Any]

CONSTRAINED = [
    models.CASCADE,
    models.PROTECT,
    models.RESTRICT,
    models.SET_NULL,
    models.SET_DEFAULT,
    models.SET(None),
    models.DO_NOTHING,
    *(getattr(models, name) for name in ("DB_CASCADE", "DB_SET_NULL", "DB_SET_DEFAULT") if hasattr(models, name)),
]


def model(name: str, base: type[models.Model] = models.Model, **fields: Any) -> Any:
    meta = type("Meta", (), {"app_label": "tests"})
    return type(name, (base,), {"__module__": __name__, "Meta": meta, **fields})


def foreign_key(to: Any, on_delete: Any, **options: Any) -> Any:
    default: Any = {"db_default": None} if getattr(on_delete, "__name__", "") == "DB_SET_DEFAULT" else {"default": None}
    db_level = type(on_delete).__name__ == "DatabaseOnDelete"
    return models.ForeignKey(to, on_delete, null=True, **(options if db_level else {**default, **options}))


@contextmanager
def tables(*made: Any) -> Iterator[None]:
    with connection.schema_editor() as editor:
        for each in made:
            editor.create_model(each)
    try:
        yield
    finally:
        cascade = " CASCADE" if connection.vendor == "postgresql" else ""
        with connection.cursor() as cursor:
            for each in reversed(made):
                for through in each._meta.local_many_to_many:
                    cursor.execute(f'DROP TABLE IF EXISTS "{through.m2m_db_table()}"{cascade}')
                cursor.execute(f'DROP TABLE IF EXISTS "{each._meta.db_table}"{cascade}')


class TestForeignKeysOfOthers:
    @pytest.mark.parametrize("on_delete", CONSTRAINED, ids=lambda each: getattr(each, "__name__", str(each)))
    def test_fault_a4_an_enforced_foreign_key_is_refused_by_name_whatever_it_does(self, on_delete: Any) -> None:
        with isolate_apps("tests"):
            total = model("Total")
            model("Order", total=foreign_key(total, on_delete, related_name="+"))
            assert blocking_foreign_keys([total]) == ["tests.Order.total"]
            assert "tests.Order.total" in obstacles([total], "default")[0]

    @pytest.mark.parametrize("on_delete", CONSTRAINED[:7], ids=lambda each: getattr(each, "__name__", str(each)))
    def test_fault_a4_a_foreign_key_that_is_not_enforced_keeps_its_value(self, on_delete: Any) -> None:
        with isolate_apps("tests"):
            total = model("Total")
            order = model("Order", total=foreign_key(total, on_delete, db_constraint=False))
            with tables(total, order):
                order.objects.create(total=total.objects.create(pk=7))
                assert obstacles([total], "default") == []
                empty([total], "default")
                assert (total.objects.count(), order.objects.get().total_id) == (0, 7)

    def test_fault_a4_many_to_many_fields_of_other_models_are_refused(self) -> None:
        with isolate_apps("tests"):
            total = model("Total")
            model("Order", totals=models.ManyToManyField(total))
            assert blocking_foreign_keys([total]) == ["tests.Order_totals.total"]

    def test_fault_a4_an_explicit_through_model_that_is_not_owned_is_refused(self) -> None:
        with isolate_apps("tests"):
            total, order = model("Total"), model("Order")
            link = model("Link", total=foreign_key(total, models.CASCADE), order=foreign_key(order, models.CASCADE))
            models.ManyToManyField(order, through=link).contribute_to_class(total, "orders")
            assert blocking_foreign_keys([total]) == ["tests.Link.total"]
            assert blocking_foreign_keys([total, link]) == []

    def test_fault_a4_a_foreign_key_to_a_proxy_is_refused(self) -> None:
        with isolate_apps("tests"):
            total = model("Total")
            meta = type("Meta", (), {"app_label": "tests", "proxy": True})
            proxy = type("Proxy", (total,), {"__module__": __name__, "Meta": meta})
            model("Order", total=foreign_key(proxy, models.SET_NULL))
            assert blocking_foreign_keys([total]) == blocking_foreign_keys([proxy]) == ["tests.Order.total"]

    def test_fault_a4_a_parent_that_is_not_owned_is_refused_and_so_is_a_child(self) -> None:
        with isolate_apps("tests"):
            parent = model("Parent")
            child = model("Child", parent)
            assert blocking_foreign_keys([child]) == blocking_foreign_keys([parent]) == ["tests.Child.parent_ptr"]
            assert blocking_foreign_keys([child, parent]) == []
            assert tables_of([parent, child]) == ["tests_child", "tests_parent"]


class TestDatabase:
    def test_fault_a4_a_foreign_key_that_only_the_database_knows_is_refused(self) -> None:
        with isolate_apps("tests"):
            total = model("Total")
            with tables(total), connection.cursor() as cursor:
                reference = "total_id bigint REFERENCES tests_total (id) ON DELETE CASCADE"
                cursor.execute(f'CREATE TABLE "Raw Order" (id bigint, {reference})')
                try:
                    (reason,) = obstacles([total], "default")
                    assert "Raw Order" in reason
                    assert "total_id" in reason
                finally:
                    cursor.execute('DROP TABLE "Raw Order"')

    @pytest.mark.parametrize(("event", "is_refused"), [("DELETE", True), ("INSERT", False), ("UPDATE", False)])
    def test_fault_a4_a_trigger_on_delete_is_refused(self, event: str, is_refused: bool) -> None:
        with isolate_apps("tests"):
            total = model("Total", deleted=models.BooleanField(default=False))
            with tables(total), connection.cursor() as cursor:
                if connection.vendor == "postgresql":
                    cursor.execute(
                        "CREATE FUNCTION tests_audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
                    )
                    cursor.execute(
                        f"CREATE TRIGGER tests_audit AFTER {event} ON tests_total "
                        "FOR EACH ROW EXECUTE FUNCTION tests_audit()"
                    )
                else:
                    cursor.execute(f"CREATE TRIGGER tests_audit AFTER {event} ON tests_total BEGIN SELECT 1; END")
                try:
                    reasons = obstacles([total], "default")
                    assert any("tests_total.tests_audit" in each for each in reasons) is is_refused
                finally:
                    if connection.vendor == "postgresql":
                        cursor.execute("DROP FUNCTION tests_audit CASCADE")

    def test_fault_a4_a_refused_rebuild_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        count(1)
        run_projection("tests.effects")
        before = checkpoint().position, checkpoint().status
        with isolate_apps("tests"):
            total = model("Total")
            model("Order", total=foreign_key(total, models.SET_NULL))
            monkeypatch.setattr(Effects, "models", (*Effects.models, total))
            with pytest.raises(ProjectionStatusError, match=r"tests\.Order\.total"):
                start_rebuild("tests.effects", by="Ada")
        assert (effects(), checkpoint().position, checkpoint().status) == (1, *before)


class TestOwnRows:
    @pytest.mark.parametrize("on_delete", [models.PROTECT, models.RESTRICT, models.CASCADE, models.SET_NULL])
    @pytest.mark.parametrize("turned", [False, True])
    def test_fault_a4_protected_models_of_one_projection_are_emptied_in_any_order(
        self, on_delete: Any, turned: bool
    ) -> None:
        with isolate_apps("tests"):
            total = model("Total", parent=foreign_key("self", on_delete))
            line = model("Line", total=foreign_key(total, on_delete))
            owned = [line, total] if turned else [total, line]
            with tables(total, line):
                line.objects.create(total=total.objects.create(parent=total.objects.create()))
                empty(owned, "default")
                assert (line.objects.count(), total.objects.count()) == (0, 0)

    def test_fault_a4_models_that_refer_to_each_other_are_emptied(self) -> None:
        with isolate_apps("tests"):
            one = model("One", other=foreign_key("tests.Other", models.PROTECT))
            other = model("Other", one=foreign_key(one, models.PROTECT))
            with tables(one, other):
                first = one.objects.create()
                first.other = other.objects.create(one=first)
                first.save()
                with transaction.atomic():
                    empty([one, other], "default")
                assert (one.objects.count(), other.objects.count()) == (0, 0)

    def test_fault_a4_a_foreign_key_that_cannot_be_deferred_decides_the_order(self) -> None:
        with isolate_apps("tests"):
            total = model("Total")
            line = model("Line", total=foreign_key(total, models.PROTECT, db_constraint=False))
            with tables(total, line), connection.cursor() as cursor:
                if connection.vendor == "postgresql":
                    cursor.execute(
                        "ALTER TABLE tests_line ADD FOREIGN KEY (total_id) REFERENCES tests_total ON DELETE RESTRICT"
                    )
                line.objects.create(total=total.objects.create())
                empty([total, line], "default")
                assert line.objects.count() == 0

    def test_fault_a4_many_to_many_rows_of_the_projection_go_and_the_other_side_stays(self) -> None:
        with isolate_apps("tests"):
            label = model("Label")
            total = model("Total", labels=models.ManyToManyField(label), peers=models.ManyToManyField("self"))
            assert blocking_foreign_keys([total]) == []
            with tables(label, total):
                kept, one, two = label.objects.create(), total.objects.create(), total.objects.create()
                one.labels.add(kept)
                one.peers.add(two)
                empty([total], "default")
                assert (total.objects.count(), label.objects.count()) == (0, 1)
                assert (total.labels.through.objects.count(), total.peers.through.objects.count()) == (0, 0)

    def test_fault_a4_rows_behind_a_generic_relation_stay_and_no_signal_is_sent(self) -> None:
        heard = list[Any]()
        with isolate_apps("tests", "django.contrib.contenttypes"):
            tag = model(
                "Tag",
                content_type=models.ForeignKey(ContentType, models.CASCADE),
                object_id=models.BigIntegerField(),
                content_object=GenericForeignKey(),
            )
            total = model("Total", tags=GenericRelation(tag))
            pre_delete.connect(heard.append, sender=total)
            with tables(total, tag):
                tag.objects.create(content_type=ContentType.objects.first(), object_id=total.objects.create().pk)
                assert obstacles([total], "default") == []
                empty([total], "default")
                assert (total.objects.count(), tag.objects.count(), heard) == (0, 1, [])

    def test_fault_a4_rows_that_the_managers_hide_are_deleted(self) -> None:
        class Visible(models.Manager[Any]):
            def get_queryset(self) -> models.QuerySet[Any]:
                return super().get_queryset().filter(is_hidden=False)

        with isolate_apps("tests"):
            meta = type("Meta", (), {"app_label": "tests", "base_manager_name": "objects"})
            fields = {"is_hidden": models.BooleanField(default=True), "objects": Visible(), "Meta": meta}
            total: Any = type("Total", (models.Model,), {"__module__": __name__, **fields})
            with tables(total), connection.cursor() as cursor:
                total(pk=1).save(force_insert=True)
                empty([total], "default")
                cursor.execute("SELECT count(*) FROM tests_total")
                assert cursor.fetchone() == (0,)
