"""A snapshot changes no result, whatever it holds, and saves the reading of what came before it."""

from decimal import Decimal
from typing import Any, ClassVar

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from pytest_django import DjangoAssertNumQueries

from es_django import Aggregate, ConcurrencyError, Repository, applies, event_store
from es_django.models import Snapshot
from es_django.snapshots import SnapshotCodec
from es_django.testing import in_memory
from tests.domain import Annotated, Deposited, Ledger


def ledger_class(every: int | None) -> type[Ledger]:
    meta = type("Meta", (), {"category": "ledger", **({} if every is None else {"snapshot_every": every})})
    return type("Ledger", (Ledger,), {"Meta": meta})


def repository(every: int | None) -> Repository[Ledger]:
    return Repository(ledger_class(every))


def state(ledger: Ledger) -> tuple[Any, ...]:
    return (ledger.owner, ledger.balance, ledger.notes, ledger.version)


def deposit_one_by_one(ledgers: Repository[Ledger], times: int) -> None:
    ledger = ledgers._aggregate("l-1")
    for amount in range(1, times + 1):
        ledger.deposit(amount)
        ledgers.save(ledger)


@pytest.mark.django_db(transaction=True)
class TestSnapshots:
    @pytest.mark.parametrize(
        ("every", "saves", "taken"), [(2, 1, None), (2, 2, 2), (2, 3, 2), (5, 1, None), (1, 1, 1), (1, 3, 3)]
    )
    def test_a_snapshot_is_taken_at_each_multiple(self, every: int, saves: int, taken: int | None) -> None:
        deposit_one_by_one(repository(every), saves)
        assert Snapshot.objects.values_list("version", flat=True).first() == taken

    def test_a_save_that_passes_a_multiple_takes_one_at_its_end(self) -> None:
        ledgers = repository(2)
        ledger = ledgers._aggregate("l-1")
        for _ in range(5):
            ledger.deposit(1)
        ledgers.save(ledger)
        assert Snapshot.objects.get().version == 5

    def test_with_a_snapshot_only_the_tail_is_read(self, django_assert_num_queries: DjangoAssertNumQueries) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, 3)
        forget_events_up_to(2)
        with django_assert_num_queries(1):
            assert state(ledgers.get("l-1")) == ("", Decimal(6), [], 3)

    def test_a_snapshot_with_an_empty_tail_is_the_aggregate(self) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, 2)
        forget_events_up_to(2)
        assert state(ledgers.get("l-1")) == ("", Decimal(3), [], 2)

    @pytest.mark.parametrize("saves", [2, 3])
    @pytest.mark.parametrize(
        "spoilt",
        [
            {"schema": "ledger:of other code"},
            {"state": {"owner": 7}},
            {"state": {"colour": "red"}},
            {"state": []},
            {"version": 1000, "state": {"balance": "1000"}},
        ],
        ids=lambda spoilt: "and".join(spoilt),
    )
    def test_a_snapshot_that_does_not_fit_is_ignored_and_replaced(self, saves: int, spoilt: dict[str, Any]) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, saves)
        Snapshot.objects.update(**spoilt)
        ledger = ledgers.get("l-1")
        assert state(ledger) == state(repository(None).get("l-1"))
        ledger.deposit(1)
        ledger.deposit(1)
        ledgers.save(ledger)
        assert Snapshot.objects.get().version == saves + 2

    def test_a_deleted_snapshot_changes_nothing(self) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, 5)
        Snapshot.objects.all().delete()
        assert ledgers.get("l-1").balance == 15

    def test_an_aggregate_as_it_was_is_folded_from_its_events(self) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, 5)
        assert ledgers.get("l-1", version=3).balance == 6

    def test_it_is_in_the_commit(self) -> None:
        ledgers = repository(1)
        ledger = ledgers._aggregate("l-1")
        ledger.deposit(1)
        with pytest.raises(KeyError), transaction.atomic():
            ledgers.save(ledger)
            assert Snapshot.objects.exists()
            raise KeyError
        assert not Snapshot.objects.exists()

    def test_a_conflict_stores_none(self) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, 1)
        stale = ledgers.get("l-1")
        repository(None).execute("l-1", lambda ledger: ledger.annotate("x"))
        stale.deposit(1)
        with pytest.raises(ConcurrencyError):
            ledgers.save(stale)
        assert not Snapshot.objects.exists()

    def test_a_state_that_would_not_come_back_is_not_cached(self, caplog: pytest.LogCaptureFixture) -> None:
        class Tupled(Ledger):
            class Meta:
                category = "ledger"
                snapshot_every = 1

            @applies
            def _annotated(self, event: Annotated) -> None:
                self.notes.append((event.note,))

        ledger = Tupled("l-1")
        ledger.annotate("in a tuple, which JSON turns into a list")
        Repository(Tupled).save(ledger)
        assert "no snapshot of ledger" in caplog.text
        assert not Snapshot.objects.exists()
        assert Repository(Tupled).get("l-1").notes == ledger.notes


def forget_events_up_to(version: int) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL es_django.maintenance = on")
        cursor.execute("DELETE FROM es_django_event WHERE version <= %s", [version])


@pytest.mark.parametrize("every", [0, -1, "often"])
def test_a_frequency_below_one_is_refused(every: int) -> None:
    with pytest.raises(ImproperlyConfigured, match="snapshot_every is a number from 1 on"):
        ledger_class(every)


def test_other_code_has_another_schema() -> None:
    class One(Aggregate):
        total: Decimal = Decimal(0)

        class Meta:
            category = "coded"

        @applies
        def _deposited(self, event: Deposited) -> None:
            self.total += event.amount

    class Other(Aggregate):
        total: Decimal = Decimal(0)

        class Meta:
            category = "coded"

        @applies
        def _deposited(self, event: Deposited) -> None:
            self.total += event.amount * 2

    class Wider(One):
        count: int = 0

        class Meta:
            category = "coded"

    assert len({SnapshotCodec(each).schema for each in (One, Other, Wider)}) == 3


def coded(factor: int, initial: int) -> type[Aggregate]:
    class Coded(Aggregate):
        total: int = initial
        LIMIT: ClassVar[int] = 5

        class Meta:
            category = "coded"

        if factor == 1:

            def _add(self, amount: Decimal) -> None:
                self.total += int(amount)

        else:

            def _add(self, amount: Decimal) -> None:
                self.total += 10 * int(amount)

        @applies
        def _deposited(self, event: Deposited) -> None:
            self._add(event.amount)

    return Coded


def test_another_helper_or_initial_value_is_another_schema_and_the_same_code_is_not() -> None:
    schemas = [SnapshotCodec(coded(*each)).schema for each in ((1, 0), (1, 0), (10, 0), (1, 100))]
    assert schemas[0] == schemas[1]
    assert len(set(schemas)) == 3


def test_a_class_variable_is_no_state() -> None:
    assert SnapshotCodec(coded(1, 0)).encode(coded(1, 0)("c-1")._state()) == '{"total":0}'


def test_a_state_of_no_json_type_is_refused() -> None:
    class Opaque(Aggregate):
        thing: complex = 0j

        class Meta:
            snapshot_every = 1

    with pytest.raises(ImproperlyConfigured, match="cannot have snapshots"):
        Repository(Opaque)


commands = st.lists(
    st.one_of(
        st.tuples(st.just("deposit"), st.decimals("0.01", "1e6", places=2)),
        st.tuples(st.just("withdraw"), st.decimals("0.01", "1e3", places=2)),
        st.tuples(st.just("annotate"), st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))),
    ),
    max_size=40,
)


class Replay(TestCase):
    @settings(max_examples=100, deadline=None)
    @given(commands=commands, every=st.integers(1, 6), batch=st.integers(1, 5))
    def test_reloading_gives_the_state_that_was_in_memory_at_any_snapshot_frequency(
        self, commands: list[tuple[str, Any]], every: int, batch: int
    ) -> None:
        replay_equals_memory(commands, every, batch)
        with in_memory():
            replay_equals_memory(commands, every, batch)


def replay_equals_memory(commands: list[tuple[str, Any]], every: int, batch: int) -> None:
    ledgers = repository(every)
    ledger = ledgers._aggregate("l-1")
    ledger.annotate("first")
    for number, (command, argument) in enumerate(commands):
        try:
            getattr(ledger, command)(argument)
        except ValueError:
            continue
        if number % batch == 0:
            ledgers.save(ledger)
    ledgers.save(ledger)
    assert state(ledgers.get("l-1")) == state(repository(None).get("l-1")) == state(ledger)
    assert event_store.version(ledger.stream) == ledger.version


def test_the_domain_of_the_tests_has_snapshots_of_every_kind_of_state() -> None:
    codec = SnapshotCodec(Ledger)
    encoded = codec.encode({"owner": "Ada", "balance": Decimal("1.50"), "notes": [None, {"a": 1}]})
    assert encoded is not None
    assert codec.decode(encoded) == {"owner": "Ada", "balance": Decimal("1.50"), "notes": [None, {"a": 1}]}
    assert Annotated.__struct_fields__ == ("note",)
