"""A snapshot never changes a result, and saves reading the events before it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from pytest_django import DjangoAssertNumQueries

from es_django import ANY, Aggregate, ConcurrencyError, Event, Repository, StreamId, applies, event_store, upcasts
from es_django.core.registry import registry
from es_django.errors import DefinitionError, PayloadError
from es_django.models import Snapshot as StoredSnapshot
from es_django.store.backends import store_for
from es_django.store.snapshots import SnapshotCodec
from es_django.store.writes import ExpectedVersion, Snapshot
from es_django.testing import in_memory
from tests.conformance.tampering import (
    add_events,
    change_snapshot,
    delete_snapshot,
    forget_events,
    put_snapshot,
    snapshot_version,
    snapshot_versions,
)
from tests.domain import Annotated, Ledger

STREAM = StreamId("cached", "l-1")


def ledger_class(every: int | None, **options: Any) -> type[Ledger]:
    meta = type("Meta", (), options if every is None else {"snapshot_every": every, **options})
    return type("Cached", (Ledger,), {"Meta": meta})


def repository(every: int | None, **options: Any) -> Repository[Ledger]:
    return Repository(ledger_class(every, **options))


def state(ledger: Ledger) -> tuple[Any, ...]:
    return (ledger.owner, ledger.balance, ledger.notes, ledger.version)


def deposit_one_by_one(ledgers: Repository[Ledger], times: int) -> None:
    ledger = ledgers._aggregate("l-1")
    for amount in range(1, times + 1):
        ledger.deposit(amount)
        ledgers.save(ledger)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("backend")
class TestTake:
    @pytest.mark.parametrize(
        ("every", "saves", "taken"), [(2, 1, None), (2, 2, 2), (2, 3, 2), (5, 1, None), (1, 1, 1), (1, 3, 3)]
    )
    def test_a_snapshot_is_taken_at_each_multiple_of_snapshot_every(
        self, every: int, saves: int, taken: int | None
    ) -> None:
        deposit_one_by_one(repository(every), saves)
        assert snapshot_version(STREAM) == taken

    def test_a_save_past_a_multiple_takes_a_snapshot_of_its_last_version(self) -> None:
        ledgers = repository(2)
        ledger = ledgers._aggregate("l-1")
        for _ in range(5):
            ledger.deposit(1)
        ledgers.save(ledger)
        assert snapshot_version(STREAM) == 5

    def test_a_snapshot_is_part_of_the_commit(self) -> None:
        ledgers = repository(1)
        ledger = ledgers._aggregate("l-1")
        ledger.deposit(1)
        with pytest.raises(KeyError), event_store.transaction():
            ledgers.save(ledger)
            assert snapshot_version(STREAM) == 1
            raise KeyError
        assert snapshot_version(STREAM) is None

    def test_a_conflict_stores_no_snapshot(self) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, 1)
        stale = ledgers.get("l-1")
        repository(None).execute("l-1", lambda ledger: ledger.annotate("x"))
        stale.deposit(1)
        with pytest.raises(ConcurrencyError):
            ledgers.save(stale)
        assert snapshot_version(STREAM) is None

    def test_a_concurrent_event_that_cannot_be_read_is_a_conflict(self) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, 1)
        stale = ledgers.get("l-1")
        add_events(STREAM, ("tests.of_another_release", 1, {}))
        stale.deposit(1)
        with pytest.raises(ConcurrencyError):
            ledgers.save(stale)

    @pytest.mark.parametrize("expected", [0, ANY], ids=str)
    def test_an_older_snapshot_never_replaces_a_newer_one(self, expected: ExpectedVersion) -> None:
        ledgers = repository(2)
        ledger = ledgers._aggregate("l-1")
        ledger.deposit(1)
        ledger.deposit(2)
        earlier = msgspec.structs.replace(ledgers._stream_write(ledger), expected=expected)
        ledgers.save(ledger)
        ledger.deposit(3)
        ledger.deposit(4)
        ledgers.save(ledger)
        event_store.append_all([earlier])  # the reply to its commit was lost
        assert snapshot_version(STREAM) == 4
        assert state(ledgers.get("l-1")) == ("", Decimal(10), [], 4)

    @pytest.mark.database_alone
    def test_a_snapshot_stores_the_time_at_which_it_was_taken(self) -> None:
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        ledgers = repository(1)
        deposit_one_by_one(ledgers, 1)
        change_snapshot(STREAM, taken_at=long_ago)
        ledgers.execute("l-1", lambda ledger: ledger.deposit(1))
        assert StoredSnapshot.objects.get().taken_at > long_ago

    @pytest.mark.parametrize(("of_base", "of_subclass"), [(None, 1), (1, None)])
    def test_a_subclass_with_other_snapshot_options_can_be_saved_as_its_base(
        self, of_base: int | None, of_subclass: int | None
    ) -> None:
        base = ledger_class(of_base)
        meta = type("Meta", (), {"category": "narrower", "snapshot_every": of_subclass})
        subclass = type("Narrower", (base,), {"Meta": meta})
        ledger = subclass("l-1")
        ledger.deposit(1)
        Repository(base).save(ledger)
        assert snapshot_version(ledger.stream) is None
        assert Repository(subclass).get("l-1").balance == 1

    @pytest.mark.requires_postgresql
    @pytest.mark.database_alone
    def test_only_a_save_that_takes_a_snapshot_reads_the_stream(
        self, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        ledgers = repository(3)
        deposit_one_by_one(ledgers, 1)
        ledger = ledgers.get("l-1")
        for queries in (1, 2, 1):
            ledger.deposit(1)
            with django_assert_num_queries(queries):
                ledgers.save(ledger)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("backend")
class TestLoad:
    @pytest.mark.parametrize(("saves", "balance"), [(3, 6), (2, 3)], ids=["and a tail", "and no tail"])
    def test_only_the_events_after_the_snapshot_are_read(self, saves: int, balance: int) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, saves)
        forget_events(STREAM, up_to=2)
        assert state(ledgers.get("l-1")) == ("", Decimal(balance), [], saves)
        assert state(ledgers.get_many(["l-1"])["l-1"]) == ("", Decimal(balance), [], saves)

    def test_all_events_after_the_snapshot_are_read(self) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, 2)
        event_store.append(STREAM, [Annotated(note=number) for number in range(1001)], expected=2)
        assert state(ledgers.get("l-1")) == ("", Decimal(3), list(range(1001)), 1003)

    @pytest.mark.database_alone
    def test_one_query_reads_a_snapshot_and_the_events_after_it(
        self, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, 3)
        with django_assert_num_queries(1):
            ledgers.get("l-1")

    def test_a_past_version_is_replayed_from_its_events(self) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, 5)
        assert ledgers.get("l-1", version=3).balance == 6

    @pytest.mark.parametrize("saves", [2, 3], ids=["and no tail", "and a tail"])
    @pytest.mark.parametrize(
        "spoilt",
        [
            {"schema": "cached:of other code"},
            {"state": {"owner": 7}},
            {"state": {"colour": "red"}},
            {"state": []},
            {"version": 1000, "state": {"balance": "1000"}},
        ],
        ids=["of other code", "with another type", "with a field too many", "with no fields", "ahead of its stream"],
    )
    def test_an_invalid_snapshot_is_ignored_and_replaced(self, saves: int, spoilt: dict[str, Any]) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, saves)
        change_snapshot(STREAM, **spoilt)
        assert_replayed_in_full_and_cached_again(ledgers, saves)

    @pytest.mark.parametrize("saves", [2, 3], ids=["and no tail", "and a tail"])
    def test_a_snapshot_of_another_aggregate_is_ignored(self, saves: int) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, saves)
        codec = SnapshotCodec(Foreign)
        foreign = codec.encode({"owner": "Eve", "balance": Decimal(1000), "notes": []})
        assert foreign is not None
        put_snapshot(STREAM, 2, Snapshot(codec.schema, foreign))
        assert_replayed_in_full_and_cached_again(ledgers, saves)

    @pytest.mark.parametrize("saves", [2, 3], ids=["and no tail", "and a tail"])
    def test_a_deleted_snapshot_is_replaced_by_a_replay(self, saves: int) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, saves)
        delete_snapshot(STREAM)
        assert_replayed_in_full_and_cached_again(ledgers, saves)


class Foreign(Ledger):
    """An aggregate with the same state as the other classes."""

    class Meta:
        snapshot_every = 2


def assert_replayed_in_full_and_cached_again(ledgers: Repository[Ledger], saves: int) -> None:
    ledger = ledgers.get("l-1")
    assert state(ledger) == state(ledgers.get_many(["l-1"])["l-1"]) == state(repository(None).get("l-1"))
    assert ledger.balance == sum(range(1, saves + 1))
    ledger.deposit(1)
    ledger.deposit(1)
    ledgers.save(ledger)
    assert snapshot_version(STREAM) == saves + 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("backend")
class TestTwoSchemas:
    def test_two_deployments_that_save_in_turns_each_load_from_their_own_snapshot(self) -> None:
        old, new = repository(2), repository(2, snapshot_version=2)
        old.save(deposited(old._aggregate("l-1")))
        for _ in range(3):
            for deployment in (new, old):
                deployment.execute("l-1", deposited)
                assert tails(old, new) == ([0, 2] if deployment is old else [2, 0])
        assert [tails_of_many(each) for each in (old, new)] == [0, 2]
        assert state(old.get("l-1")) == state(new.get("l-1")) == state(repository(None).get("l-1"))

    def test_only_the_newest_snapshot_of_another_schema_is_kept(self) -> None:
        releases = [repository(2, snapshot_version=number) for number in (1, 2, 3)]
        first, second, third = map(schema, releases)
        releases[0].save(deposited(releases[0]._aggregate("l-1")))
        assert snapshot_versions(STREAM) == {first: 2}
        releases[1].execute("l-1", deposited)
        assert snapshot_versions(STREAM) == {first: 2, second: 4}
        releases[2].execute("l-1", deposited)
        assert snapshot_versions(STREAM) == {second: 4, third: 6}
        releases[0].execute("l-1", deposited)
        assert snapshot_versions(STREAM) == {third: 6, first: 8}

    def test_the_snapshots_of_other_streams_are_kept(self) -> None:
        for number in (1, 2, 3):
            ledgers = repository(2, snapshot_version=number)
            ledgers.save(deposited(ledgers._aggregate(f"l-{number}")))
        for number in (1, 2, 3):
            assert snapshot_versions(StreamId("cached", f"l-{number}")) == {
                schema(repository(2, snapshot_version=number)): 2
            }

    def test_a_rollback_restores_the_replaced_snapshots(self) -> None:
        releases = [repository(2, snapshot_version=number) for number in (1, 2, 3)]
        releases[0].save(deposited(releases[0]._aggregate("l-1")))
        releases[1].execute("l-1", deposited)
        before = snapshot_versions(STREAM)
        with pytest.raises(KeyError), event_store.transaction():
            releases[2].execute("l-1", deposited)
            raise KeyError
        assert snapshot_versions(STREAM) == before

    def test_a_raised_snapshot_version_replays_in_full(self) -> None:
        deposit_one_by_one(repository(2), 2)
        change_snapshot(STREAM, state={"owner": "", "balance": "1000", "notes": []})
        assert repository(2).get("l-1").balance == 1000
        assert repository(2, snapshot_version=2).get("l-1").balance == 3


def deposited(ledger: Ledger) -> Ledger:
    ledger.deposit(1)
    ledger.deposit(1)
    return ledger


def schema(ledgers: Repository[Ledger]) -> str:
    return SnapshotCodec(ledgers._aggregate).schema


def tails(*deployments: Repository[Ledger]) -> list[int]:
    """Return how many events each deployment reads to load the stream."""
    return [len(list(store_for().load(STREAM, schema=schema(each)).tail)) for each in deployments]


def tails_of_many(deployment: Repository[Ledger]) -> int:
    loaded = store_for().load_many(STREAM.category, [STREAM.key], schema=schema(deployment))
    return len(list(loaded[STREAM.key].tail))


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("backend")
class TestUncacheableStates:
    def test_a_state_that_json_changes_is_not_cached(self, caplog: pytest.LogCaptureFixture) -> None:
        class Tupled(Ledger):
            class Meta:
                snapshot_every = 1

            @applies
            def _annotated(self, event: Annotated) -> None:
                self.notes.append((event.note,))

        ledger = Tupled("l-1")
        ledger.annotate("in a tuple, which JSON turns into a list")
        Repository(Tupled).save(ledger)
        assert "aggregates of category tupled get no snapshot" in caplog.text
        assert snapshot_version(ledger.stream) is None
        assert Repository(Tupled).get("l-1").notes == ledger.notes

    @pytest.mark.parametrize("kept", [1, True, 1.0, Decimal(1), "1", ("a",)], ids=repr)
    def test_a_value_that_json_turns_into_another_type_is_not_cached(
        self, kept: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Keeping(Aggregate):
            kept: int | float | list[Any] | str = 0

            class Meta:
                snapshot_every = 1

            @applies
            def _annotated(self, event: Annotated) -> None:
                self.kept = kept

        keeping = Keeping("k-1")
        keeping.record(Annotated(note=""))
        Repository(Keeping).save(keeping)
        got = Repository(Keeping).get("k-1").kept
        assert (type(got), got) == (type(kept), kept)
        comes_back = type(kept) in (int, float, str)
        assert snapshot_version(keeping.stream) == (1 if comes_back else None)
        assert ("would come back as a different value: kept" in caplog.text) != comes_back

    def test_a_state_that_holds_a_mutable_value_twice_is_not_cached(self, caplog: pytest.LogCaptureFixture) -> None:
        class Aliased(Ledger):
            open_notes: list[Any] = []

            class Meta:
                snapshot_every = 1

            @applies
            def _annotated(self, event: Annotated) -> None:
                self.notes = self.open_notes
                self.notes.append(event.note)

        ledger, ledgers = Aliased("l-1"), Repository(Aliased)
        for note in (1, 2):
            ledger.annotate(note)
            ledgers.save(ledger)
            assert snapshot_version(ledger.stream) is None
            assert ledgers.get("l-1").notes == ledgers.get("l-1").open_notes == ledger.notes
        assert "aggregates of category aliased get no snapshot" in caplog.text
        assert "a mutable value that occurs twice would come back as two copies: notes, open_notes" in caplog.text

    def test_a_state_that_is_not_annotated_is_not_cached(self, caplog: pytest.LogCaptureFixture) -> None:
        class Loose(Ledger):
            class Meta:
                snapshot_every = 1

            @applies
            def _annotated(self, event: Annotated) -> None:
                self.second, self.first = event.note, event.note

        ledger = Loose("l-1")
        ledger.annotate(7)
        Repository(Loose).save(ledger)
        assert "without a type annotation in the class: first, second" in caplog.text
        assert snapshot_version(ledger.stream) is None
        assert Repository(Loose).get("l-1").first == 7

    def test_a_state_that_holds_itself_is_not_cached(self, caplog: pytest.LogCaptureFixture) -> None:
        class Endless(Ledger):
            class Meta:
                snapshot_every = 1

            @applies
            def _annotated(self, event: Annotated) -> None:
                self.notes.append(self.notes)

        ledger = Endless("l-1")
        ledger.annotate("")
        Repository(Endless).save(ledger)
        assert "aggregates of category endless get no snapshot" in caplog.text
        assert snapshot_version(ledger.stream) is None
        assert len(Repository(Endless).get("l-1").notes) == 1

    @pytest.mark.parametrize("before", [0, 1, 3])
    def test_a_change_without_an_event_is_not_cached(self, before: int, caplog: pytest.LogCaptureFixture) -> None:
        ledgers = repository(before + 2)
        ledger = ledgers._aggregate("l-1")
        for _ in range(before):
            ledger.annotate("as it was")
        ledgers.save(ledger)
        ledger.notes.append("without an event")
        ledger.deposit(1)
        ledger.balance += 1000
        ledger.deposit(1)
        ledgers.save(ledger)
        assert "balance, notes changed without an event" in caplog.text
        assert snapshot_version(STREAM) == before + 2
        forget_events(STREAM, up_to=before + 2)
        assert state(ledgers.get("l-1")) == ("", Decimal(2), ["as it was"] * before, before + 2)

    def test_a_state_that_only_events_changed_is_cached_without_a_warning(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        ledgers = repository(2)
        ledgers.save(ledgers._aggregate.open("l-1"))
        ledger = ledgers.get("l-1")
        ledger.annotate({"b": [1, True, 1.0], "a": [None]})
        ledgers.save(ledger)
        assert snapshot_version(STREAM) == 2
        assert not caplog.records


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("backend")
class TestReload:
    def test_an_attribute_that_an_event_deletes_stays_deleted(self) -> None:
        class Closing(Ledger):
            class Meta:
                snapshot_every = 1

            @applies
            def _annotated(self, event: Annotated) -> None:
                del self.owner

        ledger = Closing("l-1")
        ledger.annotate("closed")
        Repository(Closing).save(ledger)
        assert snapshot_version(ledger.stream) == 1
        loaded = Repository(Closing).get("l-1")
        assert "owner" not in loaded.__dict__

    def test_a_snapshot_keeps_the_order_of_keys(self) -> None:
        basket = Basket("b-1")
        for sku in ("pear", "fig", "kiwi", "apple"):
            basket.record(Annotated(note=sku))
            Repository(Basket).save(basket)
            assert snapshot_version(basket.stream) == basket.version
            assert Repository(Basket).get("b-1").first == Repository(Basket).get_many(["b-1"])["b-1"].first == "pear"
            assert list(Repository(Basket).get("b-1").lines) == list(basket.lines)

    @pytest.mark.parametrize("every", [None, 1])
    def test_the_keys_of_a_payload_keep_one_order(self, every: int | None) -> None:
        nested = {"B": [], "a": {"é": 1, "a": 2, "yy": 3, "": 4}}
        note = {"zz": 1, "b": nested, "日": [{"y": 1.5, "x": 2**64}], "c": None}
        ledgers = repository(every)
        ledger = ledgers._aggregate.open("l-1")
        ledger.annotate(note)
        recorded = ledger.pending_events[1]
        ledgers.save(ledger)
        (_, stored) = event_store.read_stream(STREAM)
        assert isinstance(recorded, Annotated)
        assert isinstance(stored.event, Annotated)
        found = [recorded.note, stored.event.note, *ledger.notes, *ledgers.get("l-1").notes]
        assert found == [note] * 4
        assert len(set(map(json.dumps, found))) == 1

    @pytest.mark.parametrize("number", [1e16, -1e22, -0.0, 1e15, 1e-7, 0.1, 2**64, [1e16, {"deep": -0.0}]])
    def test_a_number_without_a_declared_type_is_read_back_unchanged(self, number: object) -> None:
        ledger = Ledger.open("l-1")
        ledger.annotate(number)
        Repository(Ledger).save(ledger)
        (read,) = Repository(Ledger).get("l-1").notes
        assert read == number
        assert repr(read) == repr(ledger.notes[0])

    @pytest.mark.parametrize("number", [1e23, 1.5e300])
    def test_a_number_that_json_changes_is_rejected(self, number: float) -> None:
        with pytest.raises(PayloadError, match="would be read back as a different value"):
            Ledger.open("l-1").annotate(number)


class Basket(Aggregate):
    lines: dict[str, int] = {}
    first: str = ""

    class Meta:
        category = "cached basket"
        snapshot_every = 1

    @applies
    def _annotated(self, event: Annotated) -> None:
        self.lines[event.note] = 1
        self.first = next(iter(self.lines))


class TestOptions:
    @pytest.mark.parametrize("every", [0, -1, "often", 1.5, True])
    def test_a_frequency_below_one_is_rejected(self, every: Any) -> None:
        with pytest.raises(DefinitionError, match=r"Cached.Meta.snapshot_every must be an integer of at least 1"):
            ledger_class(every)

    @pytest.mark.parametrize("version", [0, -1, "2", 2.0, True, None])
    def test_a_snapshot_version_below_one_is_rejected(self, version: Any) -> None:
        with pytest.raises(DefinitionError, match=r"Cached.Meta.snapshot_version must be an integer of at least 1"):
            ledger_class(1, snapshot_version=version)

    def test_the_first_snapshot_version_is_one(self) -> None:
        assert ledger_class(1).snapshot_version == 1
        assert schema(repository(1)) == schema(repository(1, snapshot_version=1))

    def test_an_aggregate_with_snapshots_rejects_a_state_without_a_json_type(self) -> None:
        class Opaque(Aggregate):
            thing: complex = 0j

        class Cached(Opaque):
            class Meta:
                snapshot_every = 1

        Repository(Opaque)
        with pytest.raises(DefinitionError, match="cannot have snapshots"):
            Repository(Cached)

    def test_an_aggregate_with_snapshots_rejects_an_event_without_a_json_type(self) -> None:
        class Turned(Event):
            by: complex

        class Turning(Aggregate):
            class Meta:
                snapshot_every = 1

            @applies
            def _turned(self, event: Turned) -> None: ...

        codec = SnapshotCodec(Turning)
        with pytest.raises(DefinitionError, match="cannot have snapshots: type <class 'complex'> is not supported"):
            codec.schema  # noqa: B018


BASKET = '''
from typing import ClassVar

import msgspec

from es_django import Aggregate, Event, applies, upcasts


class Item(msgspec.Struct):
    """A thing to buy."""

    title: str
    count: int = 1


class Added(Event):
    """Something was put into the basket."""

    item: Item
    note: str = ""
    tags: list[str] = []

    class Meta:
        name = "tests.schema.added"
        version = 2


class Emptied(Event):
    class Meta:
        name = "tests.schema.emptied"


@upcasts(Added, from_version=1)
def _from_1(data):
    return {**data, "note": ""}


class Basket(Aggregate):
    """A basket."""

    items: dict[str, Item] = {}
    limit: int = 5
    SIZES: ClassVar[set[str]] = {"s", "m", "l"}

    class Meta:
        category = "schema basket"

    @applies
    def _added(self, event: Added) -> None:
        item = event.item
        self.items[item.title] = item

    @applies
    def _emptied(self, event: Emptied) -> None:
        self.items = {}
'''

PRINT_SCHEMA = """
from es_django.store.snapshots import SnapshotCodec

print(SnapshotCodec(Basket).schema)
"""

SCHEMA_OF_BASKET = "schema basket:6b72b4a5b39210d9779d54b534bcabc7"


def schema_of(source: str) -> str:
    """Return the schema of the aggregate class in `source`, as computed by a deployment with this code."""
    namespace: dict[str, Any] = {"__name__": "tests.schema_basket"}
    exec(source, namespace)
    (aggregate,) = (each for each in namespace.values() if each in Aggregate.__subclasses__())
    return SnapshotCodec(aggregate).schema


class TestSchema:
    @pytest.fixture(autouse=True)
    def _registry_as_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(registry, "_by_name", {name: dict(claims) for name, claims in registry._by_name.items()})

    def test_the_schema_is_the_same_in_every_process_and_python_version(self) -> None:
        assert schema_of(BASKET) == SCHEMA_OF_BASKET
        code = BASKET + PRINT_SCHEMA
        for seed in "123":
            run = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            )
            assert run.stdout.strip() == SCHEMA_OF_BASKET

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            pytest.param('"""A basket."""', '"""Where items wait to be bought."""', id="docstring of the aggregate"),
            pytest.param('"""A basket."""', "", id="no docstring"),
            pytest.param('"""Something was', '"""One thing was', id="docstring of an event"),
            pytest.param('"""A thing', '"""Any thing', id="docstring of a nested class"),
            pytest.param(
                "item = event.item\n        self.items[item.title] = item",
                "added = event.item\n        self.items[added.title] = added",
                id="local variable",
            ),
            pytest.param("self.items = {}", "self.items.clear()", id="method body"),
            pytest.param("def _emptied", "def emptied", id="method name"),
            pytest.param("limit: int = 5", "limit: int = 6", id="initial value"),
            pytest.param("{}\n    limit: int = 5", "{}\n    limit: int", id="no initial value"),
            pytest.param('{"s", "m", "l"}', '{"s", "m", "l", "xl"}', id="class variable"),
            pytest.param("    SIZES: ClassVar", "    LARGE = 3\n    SIZES: ClassVar", id="constant"),
            pytest.param("import msgspec", "import msgspec\nLIMIT = 3", id="constant of the module"),
            pytest.param("class Basket(", "class Cart(", id="name of the aggregate class"),
            pytest.param("Added", "Put", id="name of an event class"),
            pytest.param('note: str = ""', 'note: str = "none"', id="default of an event"),
            pytest.param('note: str = ""', "note: str", id="no default of an event"),
            pytest.param("list[str] = []", "list[str] = msgspec.field(default_factory=list)", id="default factory"),
            pytest.param("count: int = 1", "count: int = 2", id="default of a nested class"),
            pytest.param("count: int = 1", "count: int", id="no default of a nested class"),
            pytest.param(
                '    note: str = ""\n',
                '    two = property(lambda self: 2)\n    note: str = ""\n',
                id="property of an event",
            ),
            pytest.param('{**data, "note": ""}', '{**data, "note": "none"}', id="body of an upcaster"),
            pytest.param(
                "items: dict[str, Item] = {}\n    limit: int = 5",
                "limit: int = 5\n    items: dict[str, Item] = {}",
                id="order of fields",
            ),
        ],
    )
    def test_a_change_of_code_keeps_the_schema(self, before: str, after: str) -> None:
        assert before in BASKET
        assert schema_of(BASKET.replace(before, after)) == SCHEMA_OF_BASKET

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            pytest.param("category =", "snapshot_version = 2\n        category =", id="snapshot version"),
            pytest.param("schema basket", "cart", id="category"),
            pytest.param("limit: int = 5", "limit: int = 5\n    owner: str = ''", id="field more"),
            pytest.param("    limit: int = 5\n", "", id="field less"),
            pytest.param("limit: int", "most: int", id="name of a field"),
            pytest.param("limit: int", "limit: int | None", id="type of a field"),
            pytest.param("title: str", "title: int", id="type of a field of a nested class"),
            pytest.param("count: int", "number: int", id="name of a field of a nested class"),
            pytest.param('note: str = ""', "note: str = ''\n    by: str = ''", id="field of an event more"),
            pytest.param("note: str", "remark: str", id="name of a field of an event"),
            pytest.param('note: str = ""', "note: bytes = b''", id="type of a field of an event"),
            pytest.param('note: str = ""', "note: str = msgspec.field(name='text', default='')", id="stored name"),
            pytest.param("tests.schema.added", "tests.schema.put", id="name of an event"),
            pytest.param("version = 2", "version = 3", id="schema version of an event"),
            pytest.param("    @applies\n    def _emptied", "    def _emptied", id="event less"),
            pytest.param("@upcasts(Added, from_version=1)", "", id="upcaster less"),
        ],
    )
    def test_a_change_of_shape_changes_the_schema(self, before: str, after: str) -> None:
        assert before in BASKET
        assert schema_of(BASKET.replace(before, after)) != SCHEMA_OF_BASKET

    def test_an_upcaster_that_is_registered_later_changes_the_schema(self) -> None:
        class Late(Event):
            class Meta:
                version = 2

        class Waiting(Aggregate):
            @applies
            def _late(self, event: Late) -> None: ...

        codec = SnapshotCodec(Waiting)
        before = codec.schema
        upcasts(Late, from_version=1)(lambda data: data)
        assert before != codec.schema == SnapshotCodec(Waiting).schema

    def test_a_class_variable_is_not_part_of_the_state(self) -> None:
        class Limited(Aggregate):
            total: int = 0
            LIMIT: ClassVar[int] = 5
            NAMES: ClassVar = ("a", "b")

        assert SnapshotCodec(Limited).encode(Limited("c-1")._state()) == '{"total":0}'

    def test_a_decoded_state_equals_the_encoded_one(self) -> None:
        codec = SnapshotCodec(Ledger)
        encoded = codec.encode({"owner": "Ada", "balance": Decimal("1.50"), "notes": [None, {"a": 1}]})
        assert encoded is not None
        assert codec.decode(encoded) == {"owner": "Ada", "balance": Decimal("1.50"), "notes": [None, {"a": 1}]}
        assert Annotated.__struct_fields__ == ("note",)


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
    def test_reloading_gives_the_state_in_memory_at_any_snapshot_frequency(
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
