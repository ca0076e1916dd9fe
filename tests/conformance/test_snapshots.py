"""A snapshot changes no result, whatever it holds, and saves the reading of what came before it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial, wraps
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
)
from tests.domain import Annotated, Deposited, Ledger

STREAM = StreamId("cached", "l-1")


def ledger_class(every: int | None) -> type[Ledger]:
    meta = type("Meta", (), {} if every is None else {"snapshot_every": every})
    return type("Cached", (Ledger,), {"Meta": meta})


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
@pytest.mark.usefixtures("backend")
class TestSnapshots:
    @pytest.mark.parametrize(
        ("every", "saves", "taken"), [(2, 1, None), (2, 2, 2), (2, 3, 2), (5, 1, None), (1, 1, 1), (1, 3, 3)]
    )
    def test_a_snapshot_is_taken_at_each_multiple(self, every: int, saves: int, taken: int | None) -> None:
        deposit_one_by_one(repository(every), saves)
        assert snapshot_version(STREAM) == taken

    def test_a_save_that_passes_a_multiple_takes_one_at_its_end(self) -> None:
        ledgers = repository(2)
        ledger = ledgers._aggregate("l-1")
        for _ in range(5):
            ledger.deposit(1)
        ledgers.save(ledger)
        assert snapshot_version(STREAM) == 5

    @pytest.mark.parametrize(("saves", "balance"), [(3, 6), (2, 3)], ids=["and a tail", "and no tail"])
    def test_with_a_snapshot_only_the_tail_is_read(self, saves: int, balance: int) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, saves)
        forget_events(STREAM, up_to=2)
        assert state(ledgers.get("l-1")) == ("", Decimal(balance), [], saves)
        assert state(ledgers.get_many(["l-1"])["l-1"]) == ("", Decimal(balance), [], saves)

    def test_a_tail_of_any_length_is_read_whole(self) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, 2)
        event_store.append(STREAM, [Annotated(note=number) for number in range(1001)], expected=2)
        assert state(ledgers.get("l-1")) == ("", Decimal(3), list(range(1001)), 1003)

    @pytest.mark.database_alone
    def test_a_snapshot_and_its_tail_are_one_query(self, django_assert_num_queries: DjangoAssertNumQueries) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, 3)
        with django_assert_num_queries(1):
            ledgers.get("l-1")

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
    def test_a_snapshot_that_does_not_fit_is_ignored_and_replaced(self, saves: int, spoilt: dict[str, Any]) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, saves)
        change_snapshot(STREAM, **spoilt)
        assert_it_is_replayed_in_full_and_cached_again(ledgers, saves)

    @pytest.mark.parametrize("saves", [2, 3], ids=["and no tail", "and a tail"])
    def test_a_snapshot_of_another_aggregate_is_ignored_and_replaced(self, saves: int) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, saves)
        codec = SnapshotCodec(Foreign)
        foreign = codec.encode({"owner": "Eve", "balance": Decimal(1000), "notes": []})
        assert foreign is not None
        put_snapshot(STREAM, 2, Snapshot(codec.schema, foreign))
        assert_it_is_replayed_in_full_and_cached_again(ledgers, saves)

    @pytest.mark.parametrize("saves", [2, 3], ids=["and no tail", "and a tail"])
    def test_a_snapshot_that_was_deleted_changes_nothing(self, saves: int) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, saves)
        delete_snapshot(STREAM)
        assert_it_is_replayed_in_full_and_cached_again(ledgers, saves)

    @pytest.mark.parametrize("expected", [0, ANY], ids=str)
    def test_an_older_snapshot_never_replaces_a_newer_one(self, expected: ExpectedVersion) -> None:
        ledgers = repository(2)
        ledger = ledgers._aggregate("l-1")
        ledger.deposit(1)
        ledger.deposit(2)
        earlier = msgspec.structs.replace(ledgers._write(ledger), expected=expected)
        ledgers.save(ledger)
        ledger.deposit(3)
        ledger.deposit(4)
        ledgers.save(ledger)
        event_store.append_all([earlier])  # its reply was lost
        assert snapshot_version(STREAM) == 4
        assert state(ledgers.get("l-1")) == ("", Decimal(10), [], 4)

    def test_an_aggregate_as_it_was_is_folded_from_its_events(self) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, 5)
        assert ledgers.get("l-1", version=3).balance == 6

    def test_it_is_in_the_commit(self) -> None:
        ledgers = repository(1)
        ledger = ledgers._aggregate("l-1")
        ledger.deposit(1)
        with pytest.raises(KeyError), event_store.transaction():
            ledgers.save(ledger)
            assert snapshot_version(STREAM) == 1
            raise KeyError
        assert snapshot_version(STREAM) is None

    @pytest.mark.database_alone
    def test_it_keeps_when_it_was_taken(self) -> None:
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        ledgers = repository(1)
        deposit_one_by_one(ledgers, 1)
        change_snapshot(STREAM, taken_at=long_ago)
        ledgers.execute("l-1", lambda ledger: ledger.deposit(1))
        assert StoredSnapshot.objects.get().taken_at > long_ago

    def test_a_conflict_stores_none(self) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, 1)
        stale = ledgers.get("l-1")
        repository(None).execute("l-1", lambda ledger: ledger.annotate("x"))
        stale.deposit(1)
        with pytest.raises(ConcurrencyError):
            ledgers.save(stale)
        assert snapshot_version(STREAM) is None

    @pytest.mark.parametrize(("of_base", "of_subclass"), [(None, 1), (1, None)])
    def test_a_subclass_with_other_snapshots_can_be_saved_as_its_base(
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

    def test_a_state_that_would_not_come_back_is_not_cached(self, caplog: pytest.LogCaptureFixture) -> None:
        class Tupled(Ledger):
            class Meta:
                snapshot_every = 1

            @applies
            def _annotated(self, event: Annotated) -> None:
                self.notes.append((event.note,))

        ledger = Tupled("l-1")
        ledger.annotate("in a tuple, which JSON turns into a list")
        Repository(Tupled).save(ledger)
        assert "no snapshot of tupled" in caplog.text
        assert snapshot_version(ledger.stream) is None
        assert Repository(Tupled).get("l-1").notes == ledger.notes

    def test_a_fold_that_depends_on_the_order_of_keys_comes_to_the_same(self) -> None:
        basket = Basket("b-1")
        for sku in ("pear", "fig", "kiwi", "apple"):
            basket.record(Annotated(note=sku))
            Repository(Basket).save(basket)
            assert snapshot_version(basket.stream) == basket.version
            assert Repository(Basket).get("b-1").first == Repository(Basket).get_many(["b-1"])["b-1"].first == "pear"
            assert list(Repository(Basket).get("b-1").lines) == list(basket.lines)

    @pytest.mark.parametrize("every", [None, 1])
    def test_the_keys_of_a_payload_have_one_order_from_the_recording_on(self, every: int | None) -> None:
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
    def test_a_number_of_no_declared_type_is_the_same_in_memory_and_after_reading(self, number: object) -> None:
        ledger = Ledger.open("l-1")
        ledger.annotate(number)
        Repository(Ledger).save(ledger)
        (read,) = Repository(Ledger).get("l-1").notes
        assert read == number
        assert repr(read) == repr(ledger.notes[0])

    @pytest.mark.parametrize("number", [1e23, 1.5e300])
    def test_a_number_that_would_be_read_as_another_one_is_refused(self, number: float) -> None:
        with pytest.raises(PayloadError, match="would be read back as a different value"):
            Ledger.open("l-1").annotate(number)

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
        assert "no snapshot of aliased" in caplog.text
        assert "notes, open_notes would come back as copies" in caplog.text

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
        assert "first, second not annotated" in caplog.text
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
        assert "no snapshot of endless" in caplog.text
        assert snapshot_version(ledger.stream) is None
        assert len(Repository(Endless).get("l-1").notes) == 1

    @pytest.mark.parametrize("kept", [1, True, 1.0, Decimal(1), "1", ("a",)], ids=repr)
    def test_a_value_that_would_come_back_as_an_equal_one_is_not_cached(
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
        assert ("kept would come back as another value" in caplog.text) != comes_back

    def test_an_attribute_that_an_event_takes_away_stays_away(self) -> None:
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

    @pytest.mark.parametrize("before", [0, 1, 3])
    def test_what_was_changed_without_an_event_is_not_cached(
        self, before: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        ledgers = repository(before + 2)
        ledger = ledgers._aggregate("l-1")
        for _ in range(before):
            ledger.annotate("as it was")
        ledgers.save(ledger)
        ledger.notes.append("no event tells of it")
        ledger.deposit(1)
        ledger.balance += 1000
        ledger.deposit(1)
        ledgers.save(ledger)
        assert "balance, notes changed without an event" in caplog.text
        assert snapshot_version(STREAM) == before + 2
        forget_events(STREAM, up_to=before + 2)
        assert state(ledgers.get("l-1")) == ("", Decimal(2), ["as it was"] * before, before + 2)

    def test_a_state_that_its_events_make_is_cached_without_a_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        ledgers = repository(2)
        ledgers.save(ledgers._aggregate.open("l-1"))
        ledger = ledgers.get("l-1")
        ledger.annotate({"b": [1, True, 1.0], "a": [None]})
        ledgers.save(ledger)
        assert snapshot_version(STREAM) == 2
        assert not caplog.records

    @pytest.mark.requires_postgresql
    @pytest.mark.database_alone
    def test_a_save_that_takes_a_snapshot_reads_what_it_is_of_and_no_other_save_does(
        self, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        ledgers = repository(3)
        deposit_one_by_one(ledgers, 1)
        ledger = ledgers.get("l-1")
        for queries in (1, 2, 1):
            ledger.deposit(1)
            with django_assert_num_queries(queries):
                ledgers.save(ledger)

    def test_a_stream_that_has_moved_on_unreadably_is_a_conflict_as_any_other(self) -> None:
        ledgers = repository(2)
        deposit_one_by_one(ledgers, 1)
        stale = ledgers.get("l-1")
        add_events(STREAM, ("tests.of_another_release", 1, {}))
        stale.deposit(1)
        with pytest.raises(ConcurrencyError):
            ledgers.save(stale)


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


class Foreign(Ledger):
    """Of the same state as the others."""

    class Meta:
        snapshot_every = 2


def assert_it_is_replayed_in_full_and_cached_again(ledgers: Repository[Ledger], saves: int) -> None:
    ledger = ledgers.get("l-1")
    assert state(ledger) == state(ledgers.get_many(["l-1"])["l-1"]) == state(repository(None).get("l-1"))
    assert ledger.balance == sum(range(1, saves + 1))
    ledger.deposit(1)
    ledger.deposit(1)
    ledgers.save(ledger)
    assert snapshot_version(STREAM) == saves + 2


@pytest.mark.parametrize("every", [0, -1, "often"])
def test_a_frequency_below_one_is_refused(every: int) -> None:
    with pytest.raises(DefinitionError, match="snapshot_every must be an integer of at least 1"):
        ledger_class(every)


def coded(factor: int = 1, initial: int = 0, *, twice: bool = False, wider: bool = False) -> type[Aggregate]:
    class Coded(Aggregate):
        total: int = initial
        LIMIT: ClassVar[int] = 5
        if wider:
            count: int = 0

        if factor == 1:

            def _add(self, amount: Decimal) -> None:
                self.total += int(amount)

        else:

            def _add(self, amount: Decimal) -> None:
                self.total += 10 * int(amount)

        if twice:

            @applies
            def _deposited(self, event: Deposited) -> None:
                self._add(event.amount)
                self._add(event.amount)

        else:

            @applies
            def _deposited(self, event: Deposited) -> None:
                self._add(event.amount)

    return Coded


def test_other_code_another_field_or_initial_value_is_another_schema_and_the_same_code_is_not() -> None:
    same = [SnapshotCodec(coded()).schema for _ in range(2)]
    others = [coded(factor=10), coded(initial=100), coded(twice=True), coded(wider=True)]
    assert same[0] == same[1]
    assert len({same[0], *(SnapshotCodec(other).schema for other in others)}) == 5


def logged(apply: Any) -> Any:
    @wraps(apply)
    def logging(self: Any, event: Deposited) -> None:
        apply(self, event)

    return logging


def interest(rate: int, *, where: str) -> type[Aggregate]:
    class Mixin:
        by = staticmethod(lambda: 4) if where == "mixin" and rate == 4 else staticmethod(lambda: 3)

    class Interest(Aggregate, Mixin):
        total: int = 0
        CONSTANT = rate if where == "constant" else 0
        DECLARED: ClassVar[int] = rate if where == "class variable" else 0

        if where == "setter" and rate == 4:
            set_only = property(None, lambda self, by: setattr(self, "total", by + 4))
        else:
            set_only = property(None, lambda self, by: setattr(self, "total", by + 3))
        four = property(lambda self: 4) if where == "property" and rate == 4 else property(lambda self: 3)

        def default(self, by: int = rate if where == "default argument" else 0) -> int:
            return by

        def keyword(self, *, by: int = rate if where == "keyword default" else 0) -> int:
            return by

        if where == "wrapped applier" and rate == 4:

            @applies
            @logged
            def _deposited(self, event: Deposited) -> None:
                self.total += 4

        else:

            @applies
            @logged
            def _deposited(self, event: Deposited) -> None:
                self.total += 3

    return Interest


WHERE = [
    "constant",
    "class variable",
    "property",
    "setter",
    "default argument",
    "keyword default",
    "wrapped applier",
    "mixin",
]


@pytest.mark.parametrize("where", WHERE)
def test_whatever_the_class_or_a_base_holds_makes_the_schema(where: str) -> None:
    three, again, four = (SnapshotCodec(interest(rate, where=where)).schema for rate in (3, 3, 4))
    assert three == again != four


def following(event: type[Event]) -> type[Aggregate]:
    def apply(self: Aggregate, event: Event) -> None: ...

    apply.__annotations__["event"] = event
    return type("Following", (Aggregate,), {"apply": applies(apply), "__module__": __name__})


def noted(fields: dict[str, Any], **members: Any) -> type[Event]:
    return type("Noted", (Event,), {"__annotations__": fields, "__module__": __name__, **members})


@pytest.mark.parametrize(
    "other",
    [
        lambda: noted({"amount": int, "by": str}),
        lambda: noted({"amount": Decimal}),
        lambda: noted({"amount": int}, amount=1),
        lambda: noted({"amount": int}, amount=msgspec.field(default_factory=int)),
        lambda: noted({"amount": int}, amount=msgspec.field(name="sum")),
        lambda: noted({"amount": int}, FACTOR=2),
        lambda: noted({"amount": int}, FACTOR=1, doubled=property(lambda self: self.amount * 2)),
    ],
    ids=["a field more", "a type", "a default", "a factory", "a stored name", "a constant", "a property"],
)
def test_whatever_the_events_hold_makes_the_schema(other: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_by_name", {name: dict(claims) for name, claims in registry._by_name.items()})
    schemas = [SnapshotCodec(following(each)).schema for each in (noted({"amount": int}), noted({"amount": int}))]
    assert schemas[0] == schemas[1] != SnapshotCodec(following(other())).schema


def test_a_partial_makes_the_schema_by_all_that_it_holds() -> None:
    held = [partial(max, 1), partial(min, 1), partial(max, 2), partial(max, 1, key=abs), partial(max, 1, key=int)]
    schemas = {SnapshotCodec(type("Helped", (Aggregate,), {"helper": each})).schema for each in held}
    assert len(schemas) == len(held)


def test_an_upcaster_that_is_registered_later_makes_another_schema() -> None:
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


SETS = """
from es_django import Aggregate
from es_django.store.snapshots import SnapshotCodec

class Sets(Aggregate):
    tags: set[str] = {"a", "b", "c", "d"}
    def known(self, tag: str) -> bool:
        return tag in {"paid", "open", "closed", "void"}

print(SnapshotCodec(Sets).schema)
"""


def test_every_process_has_the_same_schema() -> None:
    schemas = {
        subprocess.run(
            [sys.executable, "-c", SETS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "123"
    }
    assert len(schemas) == 1


def test_a_class_variable_is_no_state() -> None:
    assert SnapshotCodec(coded()).encode(coded()("c-1")._state()) == '{"total":0}'


def test_a_state_of_no_json_type_is_refused_where_there_are_snapshots() -> None:
    class Opaque(Aggregate):
        thing: complex = 0j

    class Cached(Opaque):
        class Meta:
            snapshot_every = 1

    Repository(Opaque)
    with pytest.raises(DefinitionError, match="cannot have snapshots"):
        Repository(Cached)


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
