"""A repeat has the same content, a write without events is a guard, and several streams keep the caller's order."""

from collections.abc import Callable
from decimal import Decimal
from threading import Barrier, Event
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction

from es_django import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    AggregateExists,
    AlreadyAppended,
    ConcurrencyError,
    PendingEvent,
    Repository,
    StreamId,
    StreamWrite,
    event_store,
    outbox,
)
from es_django.errors import DuplicateEvent, is_retryable
from es_django.store.writes import ExpectedVersion
from es_django.testing import outbox_messages
from tests.domain import Annotated, Deposited, Ledger, LedgerOpened, Withdrawn
from tests.outbox.published import Announced
from tests.publishers import Recorder
from tests.threads import threads, wait_until_a_query_waits_for_a_lock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("backend")]

ledgers = Repository(Ledger)
STREAM = StreamId("ledger", "l-1")
OTHER = StreamId("ledger", "l-2")


def log() -> list[tuple[str, int]]:
    return [(each.stream.key, each.version) for each in event_store.read_all().events]


class TestContent:
    @pytest.mark.parametrize("expected", [0, NO_STREAM, ANY], ids=str)
    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (Deposited(amount=Decimal(1)), Deposited(amount=Decimal(2))),
            (Deposited(amount=Decimal(1)), Withdrawn(amount=Decimal(1))),
            (Annotated(note=1), Annotated(note=True)),
            (Annotated(note=1), Annotated(note=1.0)),
            (Annotated(note=[1, 2]), Annotated(note=[2, 1])),
            (Annotated(note={"a": None}), Annotated(note={})),
        ],
        ids=["payload", "type", "bool", "float", "order of a list", "key"],
    )
    def test_fault_a6_other_content_under_a_stored_id_is_an_error(
        self, first: Any, second: Any, expected: ExpectedVersion
    ) -> None:
        event_id = uuid4()
        event_store.append(STREAM, [PendingEvent(first, event_id)], expected=expected)
        with pytest.raises(DuplicateEvent) as caught:
            event_store.append(STREAM, [PendingEvent(second, event_id)], expected=expected)
        assert list(caught.value.event_ids) == [event_id]
        assert [each.event for each in event_store.read_stream(STREAM)] == [first]

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ({"b": 1, "aa": {"d": 1, "c": 2}}, {"aa": {"c": 2, "d": 1}, "b": 1}),
            (1e16, 10000000000000000),
            (-0.0, 0.0),
            ([0.1, 1e-7], [0.1, 1e-7]),
            ("2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"),
        ],
        ids=["order of keys", "large float", "negative zero", "floats", "text"],
    )
    def test_fault_a6_the_same_content_in_another_form_is_a_repeat(self, first: Any, second: Any) -> None:
        event_id = uuid4()
        stored = event_store.append(
            STREAM, [PendingEvent(Annotated(note=first), event_id)], expected=0, metadata={"correlation_id": "one"}
        )
        again = [PendingEvent(Annotated(note=second), event_id)]
        repeated = event_store.append(STREAM, again, expected=0, metadata={"correlation_id": "two"})
        assert [each.event_id for each in repeated] == [each.event_id for each in stored]
        assert [each.metadata for each in repeated] == [{"correlation_id": "one"}]

    def test_fault_a6_a_command_id_with_other_events_is_an_error(self) -> None:
        ledgers.save(Ledger.open("l-1"))
        ledgers.execute("l-1", lambda ledger: ledger.deposit(5), command_id="c-1")
        ledgers.execute("l-1", lambda ledger: ledger.deposit(1))

        def twice(ledger: Ledger) -> None:
            ledger.deposit(5)
            ledger.deposit(5)

        others: list[Callable[[Ledger], object]] = [lambda ledger: ledger.deposit(7), lambda ledger: None, twice]
        for decide in others:
            with pytest.raises(DuplicateEvent):
                ledgers.execute("l-1", decide, command_id="c-1")
        assert ledgers.execute("l-1", lambda ledger: ledger.deposit(5), command_id="c-1").balance == 6


class TestRepeatInATransaction:
    @pytest.mark.parametrize("expected", [0, ANY], ids=str)
    def test_fault_a5_a_repeat_in_the_callers_transaction_ends_it(
        self, expected: ExpectedVersion, recorder: type[Recorder]
    ) -> None:
        events = [PendingEvent(LedgerOpened(owner="Ada"))]

        def block() -> None:
            with event_store.transaction():
                outbox.send("tests", type="noted", data=None)
                with event_store.transaction():
                    event_store.append(STREAM, events, expected=expected)

        block()
        stored = list(event_store.read_stream(STREAM))
        with pytest.raises(AlreadyAppended) as caught:
            block()
        assert caught.value.events == stored
        assert not is_retryable(caught.value)
        assert len(outbox_messages()) == 1
        assert event_store.append(STREAM, events, expected=expected) == stored, "outside a transaction"

    def test_fault_a5_a_save_and_a_command_repeated_in_a_transaction_raise_too(self) -> None:
        ledger = Ledger.open("l-1")
        events = list(ledger._unsaved())
        event_store.append(STREAM, events, expected=0)
        with pytest.raises(AlreadyAppended), event_store.transaction():
            ledgers.save(ledger)
        assert len(ledger.pending_events) == 1
        ledgers.save(ledger)
        ledgers.execute("l-1", lambda ledger: ledger.deposit(1), command_id="c-1")
        with pytest.raises(AlreadyAppended), event_store.transaction():
            ledgers.execute("l-1", lambda ledger: ledger.deposit(1), command_id="c-1")
        assert ledgers.execute("l-1", lambda ledger: ledger.deposit(1), command_id="c-1").balance == 1

    def test_fault_a5_a_repeat_of_several_streams_in_a_transaction_raises(self) -> None:
        writes = [StreamWrite(stream, [PendingEvent(Annotated(note=1))], 0) for stream in (OTHER, STREAM)]
        stored = event_store.append_all(writes)
        with pytest.raises(AlreadyAppended) as caught, event_store.transaction():
            event_store.append_all(writes)
        assert caught.value.events == stored

    @pytest.mark.django_db
    def test_fault_a5_the_transaction_of_a_test_case_is_not_the_callers(self) -> None:
        events = [PendingEvent(LedgerOpened(owner="Ada"))]
        stored = event_store.append(STREAM, events, expected=0)
        assert event_store.append(STREAM, events, expected=0) == stored
        with pytest.raises(AlreadyAppended), event_store.transaction():
            event_store.append(STREAM, events, expected=0)


class TestGuard:
    @pytest.mark.parametrize(
        ("expected", "before", "fits"),
        [
            (99, 1, False),
            (1, 1, True),
            (1, 0, False),
            (0, 0, True),
            (0, 1, False),
            (NO_STREAM, 0, True),
            (NO_STREAM, 1, False),
            (STREAM_EXISTS, 0, False),
            (STREAM_EXISTS, 1, True),
            (ANY, 1, True),
        ],
    )
    @pytest.mark.parametrize("several", [False, True])
    def test_fault_a7_a_write_without_events_checks_the_version(
        self, expected: ExpectedVersion, before: int, fits: bool, several: bool
    ) -> None:
        if before:
            ledgers.save(Ledger.open("l-1"))
        writes = [StreamWrite(STREAM, [], expected)]
        writes += [StreamWrite(StreamId("ledger", key), [Annotated(note=1)], 0) for key in "zk"] if several else []
        if fits:
            event_store.append_all(writes)
        else:
            with pytest.raises(ConcurrencyError) as caught:
                event_store.append_all(writes)
            assert (caught.value.expected, caught.value.actual) == (expected, before)
        assert len(log()) == before + 2 * (fits and several)
        assert event_store.version(STREAM) == before
        assert ledgers.exists("l-1") == bool(before)

    @pytest.mark.parametrize("before", [0, 1])
    def test_fault_a7_a_guard_holds_its_stream_until_the_transaction_ends(self, before: int, backend: str) -> None:
        if before:
            ledgers.save(Ledger.open("l-1"))
        started = Event()

        def append() -> int:
            started.set()
            (stored,) = event_store.append(STREAM, [Annotated(note=1)], expected=before)
            return stored.position

        with threads(1) as submit:
            with event_store.transaction():
                event_store.append(STREAM, [], expected=before)
                appending = submit(append)
                assert started.wait(30)
                if backend == "postgresql":
                    wait_until_a_query_waits_for_a_lock()
                (mine,) = event_store.append(OTHER, [Annotated(note=1)], expected=0)
            assert mine.position < appending.result(30), "the other append waited"

    def test_fault_a7_a_guard_does_not_prevent_later_appends_in_its_own_transaction(self) -> None:
        with event_store.transaction():
            event_store.append(STREAM, [], expected=NO_STREAM)
            event_store.append(STREAM, [Annotated(note=1)], expected=NO_STREAM)
            event_store.append(STREAM, [], expected=1)
        assert log() == [("l-1", 1)]

    def test_fault_a7_a_repeat_with_a_guard_that_no_longer_fits_returns_the_stored_events(self) -> None:
        writes = [StreamWrite(STREAM, [], 0), StreamWrite(OTHER, [PendingEvent(Annotated(note=1))], 0)]
        stored = event_store.append_all(writes)
        ledgers.save(Ledger.open("l-1"))
        assert event_store.append_all(writes) == stored

    def test_fault_a7_an_unchanged_aggregate_claims_no_version(self) -> None:
        ledgers.save(Ledger.open("l-1"))
        ledger = ledgers.get("l-1")
        ledgers.execute("l-1", lambda ledger: ledger.deposit(1))
        ledgers.save(ledger)


class TestOrder:
    @pytest.mark.parametrize("keys", ["cab", "abc", "bca"])
    def test_fault_a13_positions_and_messages_follow_the_order_of_the_caller(
        self, keys: str, recorder: type[Recorder]
    ) -> None:
        event_store.append(StreamId("ledger", "b"), [Annotated(note=0)], expected=0)
        writes = [StreamWrite(StreamId("ledger", key), [Announced(text=key)] * 2, ANY) for key in keys]
        recorded = event_store.append_all(writes)
        assert [each.stream.key for each in recorded] == [key for key in keys for _ in range(2)]
        assert recorded == list(event_store.read_all().events)[1:]
        assert [message.key for message in outbox_messages()] == [key for key in keys for _ in range(2)]

    def test_fault_a13_opposite_orders_do_not_deadlock(self) -> None:
        rounds, barrier = 30, Barrier(2, timeout=60)

        def write(order: int) -> int:
            for number in range(rounds):
                barrier.wait()
                streams = [StreamId("ledger", f"{key}-{number // 2}") for key in "abcd"][::order]
                event_store.append_all([StreamWrite(stream, [Annotated(note=1)], ANY) for stream in streams])
            return order

        with threads(2) as submit:
            done = [submit(write, order) for order in (1, -1)]
        assert [each.result() for each in done] == [1, -1]
        assert len(log()) == rounds * 2 * 4


class TestCreation:
    def test_fault_b5_creating_an_aggregate_that_exists_is_not_retryable(self) -> None:
        ledgers.save(Ledger.open("l-1"))
        with pytest.raises(AggregateExists, match="already exists, at version 1") as caught:
            ledgers.save(Ledger.open("l-1"))
        assert isinstance(caught.value, ConcurrencyError)
        assert not is_retryable(caught.value)
        with pytest.raises(AggregateExists):
            event_store.append(STREAM, [], expected=NO_STREAM)


class TestExecuteInATransaction:
    @pytest.mark.parametrize("inside", [False, True])
    def test_fault_b6_a_conflict_that_was_not_retried_says_why(self, inside: bool) -> None:
        ledgers.save(Ledger.open("l-1"))

        def decide(ledger: Ledger) -> None:
            event_store.append(ledger.stream, [Deposited(amount=Decimal(1))], expected=ANY)
            ledger.deposit(10)

        with pytest.raises(ConcurrencyError) as caught:
            if inside:
                with event_store.transaction():
                    ledgers.execute("l-1", decide)
            else:
                ledgers.execute("l-1", decide, attempts=2)
        notes = getattr(caught.value, "__notes__", [])
        assert any("non_atomic_requests" in note for note in notes) == inside


@pytest.mark.database_alone
def test_fault_a5_the_callers_own_writes_are_not_doubled_after_a_lost_reply(recorder: type[Recorder]) -> None:
    ledger = Ledger.open("l-1")
    events = list(ledger._unsaved())

    def block() -> None:
        with transaction.atomic(durable=True):
            event_store.append(STREAM, events, expected=0)
            outbox.send("tests", type="noted", data=None)

    block()
    with pytest.raises(AlreadyAppended):
        block()
    assert len(outbox_messages()) == 1
    assert not connection.in_atomic_block
