"""What a save promises: all of it or nothing, one winner, nothing twice."""

from contextlib import nullcontext
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.transaction import TransactionManagementError
from pytest_django import DjangoAssertNumQueries

from es_django import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    Aggregate,
    AggregateNotFound,
    ConcurrencyError,
    PendingEvent,
    Repository,
    StorageError,
    StreamId,
    StreamWrite,
    event_store,
)
from es_django.errors import DuplicateEvent, DuplicateStream, PayloadError, StreamArchived, is_retryable
from es_django.metadata import metadata
from es_django.models import StoredEvent, Stream
from es_django.store import store_for
from es_django.store.base import ExpectedVersion
from tests.domain import Annotated, Deposited, Ledger, LedgerOpened
from tests.threads import threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("backend")]

ledgers = Repository(Ledger)


def versions(key: str) -> list[int]:
    return [recorded.version for recorded in ledgers.history(key)]


def test_load_and_save_cycles_store_what_is_new_and_no_more() -> None:
    ledgers.save(Ledger.open("l-1"))
    for amount in (5, 7):
        ledger = ledgers.get("l-1")
        ledger.deposit(amount)
        ledgers.save(ledger)
        assert (ledger.version, ledger.committed_version, ledger.pending_events) == (ledger.version, ledger.version, [])
    assert ledgers.get("l-1").balance == Decimal(12)
    assert versions("l-1") == [1, 2, 3]


def test_a_saved_object_can_be_saved_again() -> None:
    ledger = Ledger.open("l-1")
    ledgers.save(ledger)
    ledger.deposit(5)
    ledgers.save(ledger)
    ledgers.save(ledger)
    assert versions("l-1") == [1, 2]


def test_without_pending_events_nothing_happens() -> None:
    ledgers.save(Ledger("l-1"))
    assert not ledgers.exists("l-1")
    assert event_store.read_all().events == []


def test_an_aggregate_without_events_is_not_found() -> None:
    with pytest.raises(AggregateNotFound, match="'ledger' 'l-1' has no events"):
        ledgers.get("l-1")


def test_an_aggregate_comes_back_as_it_was_at_a_version() -> None:
    ledger = Ledger.open("l-1")
    ledger.deposit(5)
    ledger.deposit(7)
    ledgers.save(ledger)
    earlier = ledgers.get("l-1", version=2)
    assert (earlier.balance, earlier.version) == (Decimal(5), 2)
    for version in (-1, 0, 4):
        with pytest.raises(AggregateNotFound):
            ledgers.get("l-1", version=version)


def test_a_stale_save_is_refused_and_keeps_its_events() -> None:
    ledgers.save(Ledger.open("l-1"))
    first, second = ledgers.get("l-1"), ledgers.get("l-1")
    first.deposit(5)
    second.deposit(7)
    ledgers.save(first)
    with pytest.raises(ConcurrencyError) as caught:
        ledgers.save(second)
    assert (caught.value.stream, caught.value.expected, caught.value.actual) == (StreamId("ledger", "l-1"), 1, 2)
    assert caught.value.retryable
    assert (second.committed_version, len(second.pending_events)) == (1, 1)
    assert versions("l-1") == [1, 2]


def test_a_conflict_leaves_the_callers_transaction_usable() -> None:
    ledgers.save(Ledger.open("l-1"))
    with event_store.transaction():
        with pytest.raises(ConcurrencyError):
            ledgers.save(Ledger.open("l-1"))
        ledgers.save(Ledger.open("l-2"))
    assert (versions("l-1"), versions("l-2")) == ([1], [1])


def test_several_aggregates_are_saved_all_or_none() -> None:
    ledgers.save(Ledger.open("z-stale"))
    stale, new = ledgers.get("z-stale"), Ledger.open("a-new")
    ledgers.execute("z-stale", lambda ledger: ledger.deposit(1))
    stale.deposit(2)
    for pair in ([stale, new], [new, stale]):
        with pytest.raises(ConcurrencyError):
            ledgers.save_all(pair)
        assert not ledgers.exists("a-new")
        assert (new.committed_version, len(new.pending_events)) == (0, 1)
        assert (stale.committed_version, len(stale.pending_events)) == (1, 1)
    ledgers.save_all([new, Ledger.open("b-new")])
    assert (versions("a-new"), versions("b-new")) == ([1], [1])


def test_one_stream_twice_in_one_call_is_refused_before_any_write() -> None:
    with pytest.raises(DuplicateStream):
        ledgers.save_all([Ledger.open("l-1"), Ledger.open("l-1")])
    assert event_store.read_all().events == []


def test_after_a_rollback_the_events_are_pending_again() -> None:
    ledger = Ledger.open("l-1")
    with pytest.raises(KeyError), event_store.transaction():
        ledgers.save(ledger)
        assert (ledger.committed_version, ledger.pending_events) == (1, [])
        raise KeyError
    assert (ledger.committed_version, len(ledger.pending_events)) == (0, 1)
    ledgers.save(ledger)
    assert versions("l-1") == [1]


def test_after_a_rollback_to_a_savepoint_its_events_alone_are_pending_again() -> None:
    ledger = Ledger.open("l-1")
    with event_store.transaction():
        ledgers.save(ledger)
        with pytest.raises(KeyError), event_store.transaction():
            ledger.deposit(5)
            ledgers.save(ledger)
            with event_store.transaction():
                ledger.deposit(6)
                ledgers.save(ledger)
            raise KeyError
        assert (ledger.committed_version, len(ledger.pending_events)) == (1, 2)
        ledgers.save(ledger)
    assert (ledger.committed_version, ledger.pending_events) == (3, [])
    assert versions("l-1") == [1, 2, 3]


@pytest.mark.database_alone
def test_a_failing_write_of_the_caller_takes_the_events_with_it() -> None:
    ledgers.save(Ledger.open("taken"))
    ledger = Ledger.open("l-1")
    with pytest.raises(IntegrityError), event_store.transaction():
        ledgers.save(ledger)
        Stream.objects.create(category="ledger", key="taken", version=0)
    assert not ledgers.exists("l-1")
    ledgers.save(ledger)
    assert versions("l-1") == [1]


@pytest.mark.parametrize(
    ("expected", "before", "fits"),
    [
        (0, 0, True),
        (0, 1, False),
        (1, 0, False),
        (1, 1, True),
        (2, 1, False),
        (NO_STREAM, 0, True),
        (NO_STREAM, 1, False),
        (STREAM_EXISTS, 0, False),
        (STREAM_EXISTS, 1, True),
        (ANY, 0, True),
        (ANY, 1, True),
    ],
)
def test_the_expected_version_is_checked(expected: ExpectedVersion, before: int, fits: bool) -> None:
    stream = StreamId("ledger", "l-1")
    if before:
        event_store.append(stream, [LedgerOpened(owner="Ada")], expected=NO_STREAM)
    if fits:
        event_store.append(stream, [Deposited(amount=Decimal(1))], expected=expected)
    else:
        with pytest.raises(ConcurrencyError) as caught:
            event_store.append(stream, [Deposited(amount=Decimal(1))], expected=expected)
        assert (caught.value.expected, caught.value.actual) == (expected, before)
    assert event_store.version(stream) == before + fits


@pytest.mark.parametrize("expected", [-1, 2**63, True])
def test_an_absurd_version_is_refused(expected: int) -> None:
    with pytest.raises(ValueError, match="expected is a version"):
        event_store.append(StreamId("ledger", "l-1"), [LedgerOpened(owner="Ada")], expected=expected)


def test_appending_the_same_events_again_stores_nothing_twice() -> None:
    stream = StreamId("ledger", "l-1")
    events = [PendingEvent(LedgerOpened(owner="Ada")), PendingEvent(Deposited(amount=Decimal(1)))]
    first = event_store.append(stream, events, expected=0)
    assert event_store.append(stream, events, expected=0) == first
    with pytest.raises(ConcurrencyError):
        event_store.append(stream, events[::-1], expected=0)
    with pytest.raises(ConcurrencyError):
        event_store.append(StreamId("ledger", "l-1"), [PendingEvent(LedgerOpened(owner="Ada")), events[1]], expected=0)
    assert event_store.version(stream) == 2


@pytest.mark.database_alone
@pytest.mark.parametrize("expected", [ANY, STREAM_EXISTS])
def test_appending_the_same_events_again_at_no_certain_version_stores_nothing_twice(expected: ExpectedVersion) -> None:
    stream = StreamId("ledger", "l-1")
    event_store.append(stream, [LedgerOpened(owner="Ada")], expected=0)
    events = [PendingEvent(Deposited(amount=Decimal(number))) for number in (1, 2)]
    first = event_store.append(stream, events, expected=expected)
    event_store.append(stream, [Deposited(amount=Decimal(3))], expected=ANY)
    assert event_store.append(stream, events, expected=expected) == first
    assert event_store.version(stream) == 4


@pytest.mark.parametrize("expected", [ANY, 0, 2])
@pytest.mark.parametrize("key", ["l-1", "l-2"])
def test_events_of_which_some_are_stored_are_refused_and_named(expected: ExpectedVersion, key: str) -> None:
    stored = PendingEvent(LedgerOpened(owner="Ada"))
    event_store.append(StreamId("ledger", "l-1"), [stored, Deposited(amount=Decimal(1))], expected=0)
    mixed = [PendingEvent(Deposited(amount=Decimal(1))), stored]
    with pytest.raises((DuplicateEvent, ConcurrencyError)) as caught:
        event_store.append(StreamId("ledger", key), mixed, expected=expected)
    fits = expected in (ANY, 2 if key == "l-1" else 0)
    assert isinstance(caught.value, DuplicateEvent) == fits
    if isinstance(caught.value, DuplicateEvent):
        assert list(caught.value.event_ids) == [stored.event_id]
    assert len(event_store.read_all().events) == 2


@pytest.mark.database_alone
def test_an_archived_stream_takes_no_events() -> None:
    ledgers.save(Ledger.open("l-1"))
    Stream.objects.update(archived_at="2026-01-01T00:00:00Z")
    with pytest.raises(StreamArchived):
        ledgers.execute("l-1", lambda ledger: ledger.deposit(1))
    assert versions("l-1") == [1]


def test_a_thousand_events_in_one_save_keep_their_order() -> None:
    ledger = Ledger.open("l-1")
    for number in range(1, 1000):
        ledger.annotate(number)
    ledgers.save(ledger)
    recorded = list(ledgers.history("l-1"))
    assert [each.version for each in recorded] == list(range(1, 1001))
    for index in (98, 99, 100, 998, 999):
        assert recorded[index].event == Annotated(note=index)
    assert ledgers.get("l-1").notes == list(range(1, 1000))
    positions = [each.position for each in recorded]
    assert positions == sorted(positions)


def test_a_long_stream_is_read_from_either_end_and_from_any_version() -> None:
    stream = StreamId("ledger", "l-1")
    event_store.append(stream, [Annotated(note=number) for number in range(1, 2502)], expected=0)

    def read(after: int = 0, limit: int | None = None, backwards: bool = False) -> list[int]:
        events = event_store.read_stream(stream, after=after, limit=limit, backwards=backwards)
        return [recorded.version for recorded in events]

    assert read() == list(range(1, 2502))
    assert read(backwards=True) == list(range(2501, 0, -1))
    assert read(after=2499) == [2500, 2501]
    assert read(limit=1500) == list(range(1, 1501))
    assert read(limit=1500, backwards=True, after=1200) == list(range(2501, 1200, -1))
    assert read(limit=0) == read(after=2501) == []


def test_the_log_is_read_by_category_and_by_type() -> None:
    for number in range(3):
        ledgers.save(Ledger.open(f"l-{number}"))
        event_store.append(StreamId("other", f"o-{number}"), [Annotated(note=number)], expected=0)
    every = event_store.read_all()
    assert len(every.events) == 6
    assert [event.stream.category for event in event_store.read_all(categories=["other"]).events] == ["other"] * 3
    of_type = event_store.read_all(types=[LedgerOpened], limit=2)
    assert [event.stream.key for event in of_type.events] == ["l-0", "l-1"]
    rest = event_store.read_all(types=[LedgerOpened], after=of_type.position, limit=2)
    assert [event.stream.key for event in rest.events] == ["l-2"]
    assert rest.position == every.position
    assert event_store.read_all(types=[Deposited]).events == []
    assert event_store.read_all(after=every.position).position == every.position
    assert event_store.read_all(limit=0).position == 0


def test_metadata_is_stored_with_the_events() -> None:
    with metadata(correlation_id="c-1", causation_id="e-0", user="ada"), metadata(user="grace", tenant="t"):
        ledgers.save(Ledger.open("l-1"))
    (recorded,) = ledgers.history("l-1")
    assert recorded.metadata == {"correlation_id": "c-1", "causation_id": "e-0", "user": "grace", "tenant": "t"}


def test_keys_of_any_kind_do_not_collide() -> None:
    keys = ["a", "A", "a ", " a", "a-b", "a\nb", "ä", "a\u0308", "🙂", "%s", "'", "x" * 255]
    for key in keys:
        ledgers.save(Ledger.open(key, owner=key))
    assert [ledgers.get(key).owner for key in keys] == keys
    assert len(event_store.read_all().events) == len(keys)


def test_execute_tries_again_after_a_conflict() -> None:
    ledgers.save(Ledger.open("l-1"))
    tries = []

    def decide(ledger: Ledger) -> None:
        tries.append(ledger.version)
        if len(tries) < 3:
            event_store.append(ledger.stream, [Deposited(amount=Decimal(1))], expected=ANY)
        ledger.deposit(10)

    assert ledgers.execute("l-1", decide).balance == 12
    assert tries == [1, 2, 3]


def test_execute_pauses_longer_each_time_and_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    ledgers.save(Ledger.open("l-1"))
    longest: list[tuple[float, float]] = []
    pauses: list[float] = []

    def choose(least: float, most: float) -> float:
        longest.append((least, most))
        return most / 2

    def decide(ledger: Ledger) -> None:
        event_store.append(ledger.stream, [Deposited(amount=Decimal(1))], expected=ANY)
        ledger.deposit(10)

    monkeypatch.setattr("es_django.repository.random.uniform", choose)
    monkeypatch.setattr("es_django.repository.time.sleep", pauses.append)
    with pytest.raises(ConcurrencyError):
        ledgers.execute("l-1", decide)
    assert longest == [(0, 0.02), (0, 0.04), (0, 0.08), (0, 0.16)], "five attempts, four pauses"
    with pytest.raises(ConcurrencyError):
        ledgers.execute("l-1", decide, attempts=12)
    assert longest[-1] == (0, 1.0)
    assert pauses == [most / 2 for _, most in longest]


@pytest.mark.parametrize("attempts", [0, -1])
def test_execute_tries_at_least_once(attempts: int) -> None:
    with pytest.raises(ValueError, match="attempts is a number from 1 on"):
        ledgers.execute("l-1", lambda ledger: None, attempts=attempts)


def test_what_is_recorded_after_a_save_is_pending_after_its_commit() -> None:
    ledgers.save(Ledger.open("l-1"))
    ledger = ledgers.get("l-1")
    with event_store.transaction():
        ledger.deposit(1)
        ledgers.save(ledger)
        ledger.deposit(2)
        ledger.deposit(3)
    assert ledger.pending_events == [Deposited(amount=Decimal(2)), Deposited(amount=Decimal(3))]
    assert (ledger.committed_version, ledger.version) == (2, 4)
    ledgers.save(ledger)
    assert versions("l-1") == [1, 2, 3, 4]


def test_execute_raises_the_last_conflict() -> None:
    ledgers.save(Ledger.open("l-1"))

    def decide(ledger: Ledger) -> None:
        event_store.append(ledger.stream, [Deposited(amount=Decimal(1))], expected=ANY)
        ledger.deposit(10)

    with pytest.raises(ConcurrencyError) as caught:
        ledgers.execute("l-1", decide, attempts=3)
    assert caught.value.expected == 3
    with pytest.raises(ConcurrencyError) as caught, event_store.transaction():
        ledgers.execute("l-1", decide, attempts=3)
    assert caught.value.expected == 4, "inside a transaction there is one attempt"


@pytest.mark.requires_postgresql
@pytest.mark.database_alone
def test_a_connection_that_is_cut_is_a_retryable_error_and_nothing_is_stored() -> None:
    ledger = Ledger.open("l-1")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (backend,) = cursor.fetchone()

    def terminate() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])

    with threads(1) as submit:
        submit(terminate).result()
    with pytest.raises(StorageError) as caught:
        ledgers.save(ledger)
    assert caught.value.retryable
    connection.close()
    assert not ledgers.exists("l-1")
    ledgers.save(ledger)
    assert versions("l-1") == [1]


@pytest.mark.requires_postgresql
@pytest.mark.database_alone
def test_an_append_is_one_statement_and_so_is_a_load(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    ledger = Ledger.open("l-1")
    ledger.deposit(1)
    with django_assert_num_queries(1):
        ledgers.save(ledger)
    with django_assert_num_queries(1):
        ledgers.get("l-1")
    with event_store.transaction(), django_assert_num_queries(1):
        ledger.deposit(1)
        ledgers.save(ledger)


def test_writes_to_the_same_streams_in_any_order_do_not_deadlock() -> None:
    streams = [StreamId("ledger", f"l-{number}") for number in range(4)]

    def write(order: list[StreamId]) -> int:
        for _ in range(20):
            event_store.append_all([StreamWrite(stream, [Annotated(note=1)], ANY) for stream in order])
        return 1

    with threads(4) as submit:
        done = [submit(write, order) for order in (streams, streams[::-1], streams[2:] + streams[:2], streams)]
    assert sum(each.result() for each in done) == 4
    assert [event_store.version(stream) for stream in streams] == [80] * 4


@pytest.mark.database_alone
def test_many_aggregates_come_in_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    for key in ("a", "b", "c"):
        ledgers.save(Ledger.open(key, owner=key))
        ledgers.execute(key, lambda ledger: ledger.deposit(5))
    with django_assert_num_queries(1):
        found = ledgers.get_many(["c", "missing", "a", "c"])
    assert {key: (each.key, each.owner, each.version) for key, each in found.items()} == {
        "a": ("a", "a", 2),
        "c": ("c", "c", 2),
    }
    assert ledgers.get_many([]) == {}


def test_a_command_takes_effect_once() -> None:
    ledgers.save(Ledger.open("l-1"))
    ledgers.save(Ledger.open("l-2"))

    def deposit_twice(ledger: Ledger) -> None:
        ledger.deposit(5)
        ledger.deposit(7)

    for _ in range(2):
        assert ledgers.execute("l-1", deposit_twice, command_id="c-1").balance == 12
    ledgers.execute("l-1", lambda ledger: ledger.withdraw(2))
    assert ledgers.execute("l-1", deposit_twice, command_id="c-1").balance == 10
    assert ledgers.execute("l-1", deposit_twice, command_id="c-2").balance == 22
    assert ledgers.execute("l-2", deposit_twice, command_id="c-1").balance == 12
    for _ in range(2):
        assert ledgers.execute("l-2", lambda ledger: ledger.deposit(1), command_id="c-3").balance == 13


def test_every_method_has_an_asynchronous_twin() -> None:
    async_to_sync(use_every_twin)()


async def use_every_twin() -> None:
    ledger = Ledger.open("l-1")
    await ledgers.asave(ledger)
    await ledgers.asave_all([Ledger.open("l-2")])
    assert (await ledgers.aexecute("l-1", lambda ledger: ledger.deposit(5), command_id="c-1")).balance == 5
    assert (await ledgers.aget("l-1", version=1)).balance == 0
    assert list(await ledgers.aget_many(["l-1", "l-2"])) == ["l-1", "l-2"]
    assert await ledgers.aexists("l-1")
    assert [recorded.version for recorded in await ledgers.ahistory("l-1")] == [1, 2]
    stream = StreamId("ledger", "l-3")
    await event_store.aappend(stream, [Annotated(note=1)], expected=0)
    await event_store.aappend_all([StreamWrite(stream, [Annotated(note=2)], 1)])
    assert await event_store.aversion(stream) == 2
    assert [recorded.version for recorded in await event_store.aread_stream(stream, backwards=True)] == [2, 1]
    assert len((await event_store.aread_all(types=[Annotated])).events) == 2


@pytest.mark.database_alone
def test_metadata_that_has_a_column_is_stored_in_it() -> None:
    with metadata(correlation_id="c-1", causation_id="e-0", user="ada"):
        ledgers.save(Ledger.open("l-1"))
    stored = StoredEvent.objects.get()
    assert (stored.correlation_id, stored.causation_id, stored.metadata) == ("c-1", "e-0", {"user": "ada"})


@pytest.mark.database_alone
@pytest.mark.parametrize("outer", [False, True])
def test_a_commit_whose_reply_was_lost_can_be_repeated(outer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.open("l-1")
    ledger.deposit(5)
    with monkeypatch.context() as patch:
        lose_the_reply(patch)
        with (
            pytest.raises((StorageError, OperationalError)) as caught,
            transaction.atomic() if outer else nullcontext(),
        ):
            ledgers.save(ledger)
    assert is_retryable(caught.value)
    connection.close()
    assert versions("l-1") == [1, 2], "the server has committed"
    assert (ledger.committed_version, len(ledger.pending_events)) == (0, 2)
    ledgers.save(ledger)
    assert (ledger.committed_version, ledger.pending_events) == (2, [])
    assert versions("l-1") == [1, 2]


def lose_the_reply(patch: pytest.MonkeyPatch) -> None:
    """From now on the connection breaks when the server has committed and before the client hears of it."""

    commit, execute = connection._commit, CursorWrapper.execute  # type: ignore[attr-defined]

    def commit_and_break() -> None:
        commit()
        raise OperationalError("the connection is lost")

    def execute_and_break(cursor: CursorWrapper, *args: Any) -> None:
        execute(cursor, *args)
        # A statement by itself is its own commit; SQLite's is the BEGIN of a transaction.
        if connection.get_autocommit() and connection.vendor == "postgresql":
            raise OperationalError("the connection is lost")

    patch.setattr(connection, "_commit", commit_and_break)
    patch.setattr(CursorWrapper, "execute", execute_and_break)


def test_an_aggregate_of_another_class_is_refused() -> None:
    class Other(Aggregate):
        pass

    with pytest.raises(TypeError, match="is no Ledger"):
        ledgers.save_all([Ledger.open("l-1"), Other("o-1")])  # type: ignore[list-item]
    assert not ledgers.exists("l-1")


@pytest.mark.database_alone
@pytest.mark.requires_postgresql
def test_a_failure_that_is_caught_is_not_taken_for_a_success() -> None:
    ledger, stored = Ledger.open("l-1"), PendingEvent(LedgerOpened(owner="Ada"))
    event_store.append(StreamId("ledger", "other"), [stored], expected=0)
    with transaction.atomic():
        ledgers.save(ledger)
        with pytest.raises(DuplicateEvent):
            event_store.append(StreamId("ledger", "l-2"), [stored], expected=0)
        with pytest.raises(TransactionManagementError):
            Stream.objects.exists()
    assert (ledger.committed_version, len(ledger.pending_events)) == (0, 1)
    ledgers.save(ledger)
    assert versions("l-1") == [1]


def test_what_is_recorded_while_a_save_is_in_flight_stays_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.open("l-1")
    store = store_for()
    append_all = store.append_all

    def record_meanwhile(*args: Any, **kwargs: Any) -> Any:
        result = append_all(*args, **kwargs)
        ledger.deposit(5)
        return result

    monkeypatch.setattr(store, "append_all", record_meanwhile)
    ledgers.save(ledger)
    monkeypatch.undo()
    assert (ledger.committed_version, ledger.pending_events) == (1, [Deposited(amount=Decimal(5))])
    ledgers.save(ledger)
    assert versions("l-1") == [1, 2]


def test_a_correlation_id_that_is_too_long_is_refused() -> None:
    with metadata(correlation_id="x" * 256), pytest.raises(PayloadError, match="more than 255"):
        ledgers.save(Ledger.open("l-1"))


def test_a_payload_that_is_nested_too_deeply_is_refused() -> None:
    note: list[Any] = []
    for _ in range(100_000):
        note = [note]
    with pytest.raises(PayloadError, match="nested too deeply"):
        Ledger("l-1").annotate(note)
