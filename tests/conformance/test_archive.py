"""An archived stream can still be read, and an append to it is an error."""

from threading import Barrier, Event
from typing import Any

import pytest

from es_django import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    AggregateNotFound,
    PendingEvent,
    Repository,
    StreamId,
    StreamWrite,
    event_store,
)
from es_django.errors import StreamArchived
from es_django.models import Stream
from es_django.store.writes import ExpectedVersion
from es_django.testing import outbox_messages
from tests.domain import Annotated, Ledger
from tests.outbox.published import Announced
from tests.publishers import Recorder
from tests.threads import threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("backend")]

ledgers = Repository(Ledger)

STREAM = StreamId("ledger", "l-1")


@pytest.fixture(autouse=True)
def _an_archived_ledger(backend: str) -> None:
    ledgers.save(Ledger.open("l-1"))
    event_store.archive(STREAM)


class TestAppend:
    @pytest.mark.parametrize("expected", [ANY, STREAM_EXISTS, NO_STREAM, 0, 1, 2], ids=str)
    def test_an_archived_stream_refuses_appends_at_every_expected_version(
        self, expected: ExpectedVersion, recorder: type[Recorder]
    ) -> None:
        for event in (Announced(text="late"), PendingEvent(Announced(text="late"))):
            with pytest.raises(StreamArchived) as caught:
                event_store.append(STREAM, [event], expected=expected)
            assert (caught.value.stream, caught.value.retryable) == (STREAM, False)
        assert [recorded.version for recorded in event_store.read_all().events] == [1]
        assert outbox_messages() == []

    def test_an_append_to_several_streams_writes_nothing_if_one_is_archived(self) -> None:
        writes = [StreamWrite(StreamId("ledger", key), [Annotated(note=1)], ANY) for key in ("a", "l-1", "z")]
        with pytest.raises(StreamArchived):
            event_store.append_all(writes)
        assert len(event_store.read_all().events) == 1

    def test_a_command_fails_without_a_retry_and_its_events_stay_pending(self) -> None:
        tries: list[Ledger] = []

        def decide(ledger: Ledger) -> None:
            tries.append(ledger)
            ledger.deposit(1)

        with pytest.raises(StreamArchived):
            ledgers.execute("l-1", decide)
        (ledger,) = tries
        assert (ledger.committed_version, len(ledger.pending_events)) == (1, 1)

    def test_a_repeat_of_an_append_from_before_archiving_returns_the_stored_events(self) -> None:
        stream, events = StreamId("ledger", "l-2"), [PendingEvent(Annotated(note=1))]
        stored = event_store.append(stream, events, expected=0)
        event_store.archive(stream)
        for expected in (0, ANY):
            assert event_store.append(stream, events, expected=expected) == stored

    def test_other_streams_still_accept_appends(self) -> None:
        ledgers.save(Ledger.open("l-2"))
        event_store.append(StreamId("other", "l-1"), [Annotated(note=1)], expected=0)


class TestRead:
    def test_an_archived_stream_can_still_be_read_and_loaded(self) -> None:
        assert ledgers.get("l-1").owner == "Ada"
        assert ledgers.exists("l-1")
        assert list(ledgers.get_many(["l-1"])) == ["l-1"]
        assert [recorded.version for recorded in ledgers.history("l-1")] == [1]
        assert event_store.version(STREAM) == 1


class TestArchive:
    def test_archiving_again_changes_nothing(self) -> None:
        event_store.archive(STREAM)
        with pytest.raises(StreamArchived):
            event_store.append(STREAM, [Annotated(note=1)], expected=ANY)

    @pytest.mark.database_alone
    def test_archiving_again_keeps_the_first_time(self) -> None:
        first = Stream.objects.get().archived_at
        assert first is not None
        event_store.archive(STREAM)
        assert Stream.objects.get().archived_at == first

    def test_archiving_a_stream_without_events_is_an_error(self) -> None:
        with pytest.raises(AggregateNotFound, match="'ledger' 'missing' has no events"):
            event_store.archive(StreamId("ledger", "missing"))
        ledgers.save(Ledger.open("missing"))


class TestTransaction:
    def test_archiving_is_rolled_back_with_its_transaction_or_savepoint(self) -> None:
        for key in ("l-2", "l-3"):
            ledgers.save(Ledger.open(key))
        with pytest.raises(KeyError), event_store.transaction():
            event_store.archive(StreamId("ledger", "l-2"))
            raise KeyError
        with event_store.transaction():
            with pytest.raises(KeyError), event_store.transaction():
                event_store.archive(StreamId("ledger", "l-3"))
                raise KeyError
            for key in ("l-2", "l-3"):
                ledgers.execute(key, lambda ledger: ledger.deposit(1))

    def test_a_transaction_can_append_before_it_archives_but_not_after(self) -> None:
        stream = StreamId("ledger", "l-2")
        with event_store.transaction():
            ledgers.save(Ledger.open("l-2"))
            event_store.archive(stream)
            with pytest.raises(StreamArchived):
                event_store.append(stream, [Annotated(note=1)], expected=ANY)
        assert event_store.version(stream) == 1


class TestConcurrentAppend:
    @pytest.mark.parametrize("expected", [ANY, "the version"])
    def test_no_append_is_stored_after_a_concurrent_archiving(self, expected: Any) -> None:
        rounds = 20
        for number in range(rounds):
            ledgers.save(Ledger.open(f"race-{number}"))

        def append_until_refused(barrier: Barrier) -> None:
            for number in range(rounds):
                stream = StreamId("ledger", f"race-{number}")
                barrier.wait()
                with pytest.raises(StreamArchived):
                    for _ in range(10_000):
                        version = ANY if expected is ANY else event_store.version(stream)
                        event_store.append(stream, [Annotated(note=number)], expected=version)
                barrier.wait()

        def archive(barrier: Barrier) -> None:
            for number in range(rounds):
                stream = StreamId("ledger", f"race-{number}")
                barrier.wait()
                event_store.archive(stream)
                last = event_store.version(stream)
                barrier.wait()
                assert event_store.version(stream) == last

        barrier = Barrier(2, timeout=60)
        with threads(2) as submit:
            done = [submit(each, barrier) for each in (append_until_refused, archive)]
        for each in done:
            each.result()

    def test_an_append_that_waited_for_an_archiving_is_an_error(self) -> None:
        ledgers.save(Ledger.open("l-2"))
        archived, appending = Event(), Event()

        def archive() -> None:
            with event_store.transaction():
                event_store.archive(StreamId("ledger", "l-2"))
                archived.set()
                assert appending.wait(30)

        def append() -> None:
            assert archived.wait(30)
            appending.set()
            with pytest.raises(StreamArchived):
                event_store.append(StreamId("ledger", "l-2"), [Annotated(note=1)], expected=ANY)

        with threads(2) as submit:
            done = [submit(each) for each in (archive, append)]
        for each in done:
            each.result()
        assert event_store.version(StreamId("ledger", "l-2")) == 1
