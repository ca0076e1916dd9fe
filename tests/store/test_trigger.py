"""The trigger that keeps events unchanged survives migrations, and the audit names what is wrong with it."""

from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.core.management.sql import emit_post_migrate_signal, emit_pre_migrate_signal
from django.db import DatabaseError, connection, migrations, models, transaction
from django.db.migrations.loader import MigrationLoader

from es_django import StreamId, event_store
from es_django.audit import Audit
from es_django.database_checks import check_append_only
from es_django.models import OutboxMessage, StoredEvent, Stream
from es_django.store.append_only import create_trigger, drop_trigger, trigger_problem
from es_django.store.sqlite.drawn import drawn_numbers
from tests.domain import Annotated

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _trigger() -> Iterator[None]:
    yield
    create_trigger(connection)


def note(text: str) -> int:
    (recorded,) = event_store.append(StreamId("note", text), [Annotated(note=text)], expected=0)
    return recorded.position


def require_append_only() -> None:
    note("one")
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        StoredEvent.objects.update(version=7)
    assert trigger_problem(connection) == ""


def change_type(model: str, length: int) -> None:
    """Make the table of a model anew on SQLite, as a migration does."""
    change = migrations.AlterField(model, "type", models.CharField(max_length=length))
    state = MigrationLoader(connection).project_state()
    if length == LENGTH:
        state.alter_field("es_django", model, "type", models.CharField(max_length=300), True)
    after = state.clone()
    change.state_forwards("es_django", after)
    with connection.schema_editor() as editor:
        change.database_forwards("es_django", editor, state, after)


def migrate(model: str) -> None:
    """Make the table of a model anew between the signals that `migrate` sends."""
    emit_pre_migrate_signal(verbosity=0, interactive=False, db="default")
    change_type(model, 300)
    change_type(model, LENGTH)
    emit_post_migrate_signal(verbosity=0, interactive=False, db="default")


LENGTH = 255

WEAKENED = {
    "postgresql": [
        "ALTER TABLE es_django_event DISABLE TRIGGER es_django_event_append_only",
        "CREATE OR REPLACE FUNCTION es_django_refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RETURN coalesce(NEW, OLD); END'",
        "CREATE OR REPLACE TRIGGER es_django_event_append_only BEFORE DELETE ON es_django_event "
        "FOR EACH ROW EXECUTE FUNCTION es_django_refuse_event_change()",
        "CREATE OR REPLACE TRIGGER es_django_event_append_only BEFORE UPDATE OF version OR DELETE ON es_django_event "
        "FOR EACH ROW EXECUTE FUNCTION es_django_refuse_event_change()",
        "CREATE OR REPLACE TRIGGER es_django_event_append_only BEFORE UPDATE OR DELETE ON es_django_event "
        "FOR EACH ROW WHEN (OLD.version > 1) EXECUTE FUNCTION es_django_refuse_event_change()",
    ],
    "sqlite": [
        "CREATE TRIGGER es_django_event_append_only BEFORE UPDATE ON es_django_event BEGIN SELECT 1; END",
        "CREATE TRIGGER es_django_event_append_only AFTER INSERT ON es_django_event BEGIN SELECT 1; END",
    ],
}


class TestMigrations:
    def test_fault_a12_a_migration_that_makes_the_table_anew_keeps_the_trigger(self) -> None:
        before = note("before")
        migrate("storedevent")
        require_append_only()
        assert StoredEvent.objects.filter(pk=before).exists()

    @pytest.mark.requires_sqlite
    def test_fault_a12_the_trigger_is_missing_until_migrate_ends(self) -> None:
        change_type("storedevent", 300)
        change_type("storedevent", LENGTH)
        assert "has no trigger" in trigger_problem(connection)
        call_command("migrate", verbosity=0)
        require_append_only()

    @pytest.mark.requires_sqlite
    @pytest.mark.parametrize("model", [StoredEvent, OutboxMessage])
    def test_fault_a12_a_table_made_anew_draws_no_number_again(self, model: type[models.Model]) -> None:
        table = model._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
            cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, 1000)", [table])
        migrate(str(model._meta.model_name))
        assert drawn_numbers(connection)[table] == 1000

    @pytest.mark.parametrize("statement", [pytest.param(None, id="missing"), *range(5)])
    def test_fault_a12_migrate_restores_a_trigger_that_is_missing_or_changed(self, statement: int | None) -> None:
        drop_trigger(connection)
        if statement is not None:
            weakened = WEAKENED[connection.vendor]
            if statement >= len(weakened):
                return
            if connection.vendor == "postgresql":
                create_trigger(connection)
            with connection.cursor() as cursor:
                cursor.execute(weakened[statement])
        problem = trigger_problem(connection)
        assert problem
        assert f"missing trigger: {problem}. Run manage.py migrate to restore it" in map(str, Audit().findings())
        assert [message.id for message in check_append_only(databases=["default"])] == ["es_django.W044"]
        call_command("migrate", verbosity=0)
        assert check_append_only(databases=["default"]) == []
        require_append_only()

    def test_fault_a12_the_check_reads_no_database_that_is_not_asked_for(self) -> None:
        drop_trigger(connection)
        assert check_append_only(databases=None) == check_append_only(databases=["other"]) == []

    def test_fault_a12_emptying_the_database_after_a_test_still_works(self) -> None:
        note("one")
        call_command("flush", interactive=False, verbosity=0)
        assert (StoredEvent.objects.count(), Stream.objects.count()) == (0, 0)
        require_append_only()
