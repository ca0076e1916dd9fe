"""The event store checks expected versions, recognises repeated appends, and reads streams and the log."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction

from es_django import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    ConcurrencyError,
    PendingEvent,
    Repository,
    StreamId,
    StreamWrite,
    event_store,
    outbox,
)
from es_django.core.instrumentation import Work, listeners
from es_django.core.metadata import metadata
from es_django.errors import DuplicateEvent, PayloadError
from es_django.models import StoredEvent, Stream
from es_django.store.backends import store_for
from es_django.store.writes import ExpectedVersion
from tests.domain import Annotated, Deposited, Ledger, LedgerOpened
from tests.publishers import Recorder
from tests.threads import threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("backend")]

ledgers = Repository(Ledger)


def versions(key: str) -> list[int]:
    return [recorded.version for recorded in ledgers.history(key)]


@contextmanager
def in_flight(first_append: Callable[[], object]) -> Iterator[None]:
    """Run `first_append` in another thread, right after the next append in the block has looked up its events."""
    find_events = type(store_for())._find_events
    looked: list[Any] = []

    def find_then_append(store: Any, event_ids: Any) -> Any:
        found = find_events(store, event_ids)
        if not looked:
            looked.append(found)
            with threads(1) as submit:
                submit(first_append).result(20)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(store_for()), "_find_events", find_then_append)
        yield
    assert looked == [[]]


NAMES = ["a", "A", "a ", " a", "a-b", "a/b", "a:b", "a\nb", "ä", "a\u0308", "🙂", "%s", "'", "x" * 255, "x" * 254]
NAMES += ["🙂" * 255, "🙂" * 254 + "!", *(separator.join("ab") for separator in "-/:|$@#_., \t\x1f")]


class TestExpectedVersion:
    """An append writes its events if the stream is at the expected version, and nothing at any other version."""

    @pytest.mark.parametrize(
        ("expected", "before", "fits"),
        [
            (0, 0, True),
            (0, 1, False),
            (1, 0, False),
            (1, 1, True),
            (2, 1, False),
            (2**63 - 1, 1, False),
            (NO_STREAM, 0, True),
            (NO_STREAM, 1, False),
            (STREAM_EXISTS, 0, False),
            (STREAM_EXISTS, 1, True),
            (ANY, 0, True),
            (ANY, 1, True),
        ],
    )
    def test_an_append_must_match_the_version_of_the_stream(
        self, expected: ExpectedVersion, before: int, fits: bool
    ) -> None:
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

    def test_streams_with_the_same_key_in_two_categories_have_versions_of_their_own(self) -> None:
        streams = [Ledger("l-1").stream, StreamId("a category before it", "l-1"), StreamId("one after it", "l-1")]
        for stream in streams:
            event_store.append(stream, [Deposited(amount=Decimal(10))], expected=0)
        for expected in (1, STREAM_EXISTS, ANY):
            event_store.append(streams[0], [Deposited(amount=Decimal(1))], expected=expected)
        assert [event_store.version(stream) for stream in streams] == [4, 1, 1]
        assert versions("l-1") == [1, 2, 3, 4]
        for ledger in (ledgers.get("l-1"), ledgers.get_many(["l-1"])["l-1"]):
            assert (ledger.balance, ledger.version) == (Decimal(13), 4)


class TestRepeatedAppend:
    """The decision table of es_django.store.idempotency."""

    def test_a_repeat_at_the_expected_version_returns_the_stored_events(self) -> None:
        stream = StreamId("ledger", "l-1")
        events = [PendingEvent(LedgerOpened(owner="Ada")), PendingEvent(Deposited(amount=Decimal(1)))]
        first = event_store.append(stream, events, expected=0)
        assert event_store.append(stream, events, expected=0) == first
        with pytest.raises(DuplicateEvent):
            event_store.append(stream, events[::-1], expected=0)
        with pytest.raises(DuplicateEvent):
            event_store.append(
                StreamId("ledger", "l-1"), [PendingEvent(LedgerOpened(owner="Ada")), events[1]], expected=0
            )
        with pytest.raises(ConcurrencyError):
            event_store.append(stream, [PendingEvent(LedgerOpened(owner="Ada"))], expected=0)
        assert event_store.version(stream) == 2

    @pytest.mark.parametrize("expected", [ANY, STREAM_EXISTS], ids=str)
    def test_a_repeat_without_an_expected_version_returns_the_stored_events(self, expected: ExpectedVersion) -> None:
        stream = StreamId("ledger", "l-1")
        event_store.append(stream, [LedgerOpened(owner="Ada")], expected=0)
        events = [PendingEvent(Deposited(amount=Decimal(number))) for number in (1, 2)]
        first = event_store.append(stream, events, expected=expected)
        event_store.append(stream, [Deposited(amount=Decimal(3))], expected=ANY)
        assert event_store.append(stream, events, expected=expected) == first
        assert event_store.version(stream) == 4

    def test_a_repeat_on_several_streams_returns_the_stored_events(self) -> None:
        writes = [
            StreamWrite(StreamId("ledger", key), [PendingEvent(Annotated(note=key))], 0) for key in ("l-1", "l-2")
        ]
        assert event_store.append_all(writes) == event_store.append_all(writes)
        assert len(event_store.read_all().events) == 2

    @pytest.mark.parametrize("expected", [ANY, 0, 2])
    @pytest.mark.parametrize("key", ["l-1", "l-2"])
    def test_events_that_are_partly_stored_are_an_error_that_names_them(
        self, expected: ExpectedVersion, key: str
    ) -> None:
        stored = PendingEvent(LedgerOpened(owner="Ada"))
        event_store.append(StreamId("ledger", "l-1"), [stored, Deposited(amount=Decimal(1))], expected=0)
        mixed = [PendingEvent(Deposited(amount=Decimal(1))), stored]
        with pytest.raises(DuplicateEvent) as caught:
            event_store.append(StreamId("ledger", key), mixed, expected=expected)
        assert list(caught.value.event_ids) == [stored.event_id]
        assert len(event_store.read_all().events) == 2

    @pytest.mark.parametrize("expected", [ANY, 0])
    @pytest.mark.parametrize("keys", [["l-1", "l-2"], ["l-2", "l-1"]], ids=["stored first", "new first"])
    def test_a_mix_of_repeated_and_new_streams_is_an_error_that_names_the_repeated_events(
        self, keys: list[str], expected: ExpectedVersion
    ) -> None:
        known = StreamWrite(StreamId("ledger", keys[0]), [PendingEvent(Annotated(note=1))], expected)
        new = StreamWrite(StreamId("ledger", keys[1]), [PendingEvent(Annotated(note=2))], expected)
        first = event_store.append_all([known])
        with pytest.raises(DuplicateEvent) as caught:
            event_store.append_all([known, new])
        assert list(caught.value.event_ids) == [first[0].event_id]
        assert (event_store.version(known.stream), event_store.version(new.stream)) == (1, 0)

    def test_a_repeat_with_a_further_event_is_an_error_that_names_the_stored_events(self) -> None:
        stream = StreamId("ledger", "l-1")
        first, new = PendingEvent(LedgerOpened(owner="Ada")), PendingEvent(Deposited(amount=Decimal(1)))
        event_store.append(stream, [first], expected=0)
        with pytest.raises(DuplicateEvent) as caught:
            event_store.append(stream, [first, new], expected=0)
        assert list(caught.value.event_ids) == [first.event_id]
        assert event_store.version(stream) == 1

    @pytest.mark.parametrize("keys", [["l-1", "l-1"], ["l-1", "l-2"]], ids=["to one stream", "to two streams"])
    def test_an_event_given_twice_in_one_call_is_an_error_and_nothing_is_written(self, keys: list[str]) -> None:
        event = PendingEvent(Annotated(note=1))
        writes = {key: StreamWrite(StreamId("ledger", key), [event] * keys.count(key), 0) for key in keys}
        with pytest.raises(DuplicateEvent) as caught:
            event_store.append_all(list(writes.values()))
        assert list(caught.value.event_ids) == [event.event_id]
        assert event_store.read_all().events == []

    @pytest.mark.requires_postgresql  # the other stores allow only one append in flight at a time
    def test_a_repeat_beside_the_first_append_in_flight_returns_its_events(self) -> None:
        stream, events = StreamId("ledger", "l-1"), [PendingEvent(LedgerOpened(owner="Ada"))]
        with in_flight(lambda: event_store.append(stream, events, expected=ANY)):
            (stored,) = event_store.append(stream, events, expected=ANY)
        assert (stored.event_id, event_store.version(stream)) == (events[0].event_id, 1)

    @pytest.mark.requires_postgresql
    def test_a_repeat_with_a_conflict_beside_the_first_append_in_flight_is_counted_as_a_conflict(self) -> None:
        repeated = StreamWrite(StreamId("ledger", "l-1"), [PendingEvent(LedgerOpened(owner="Ada"))], ANY)
        new, other = (StreamWrite(StreamId("ledger", "l-2"), [Annotated(note=note)], 0) for note in ("new", "other"))
        outcomes: list[Mapping[str, int]] = []

        @contextmanager
        def listen(work: Work) -> Iterator[None]:
            try:
                yield
            finally:
                outcomes.append(work.outcomes)

        with in_flight(lambda: event_store.append_all([repeated, other])), pytest.raises(ConcurrencyError):
            listeners.append(listen)
            try:
                event_store.append_all([repeated, new])
            finally:
                listeners.remove(listen)
        assert {"conflict": 2} in outcomes

    @pytest.mark.parametrize("version", [1, 2])
    def test_a_repeat_at_another_version_is_an_error(self, version: int) -> None:
        stream, events = StreamId("ledger", "l-1"), [PendingEvent(LedgerOpened(owner="Ada"))]
        event_store.append(stream, events, expected=0)
        event_store.append(stream, [Deposited(amount=Decimal(1))], expected=1)
        # At the current version the append fails because its event ids exist, at another version because of a conflict.
        with pytest.raises(DuplicateEvent if version == 2 else ConcurrencyError):
            event_store.append(stream, events, expected=version)
        assert event_store.version(stream) == 2


class TestSeveralStreams:
    def test_writes_to_the_same_streams_in_any_order_do_not_deadlock(self) -> None:
        streams = [StreamId("ledger", f"l-{number}") for number in range(4)]

        def write(order: list[StreamId]) -> int:
            for _ in range(20):
                event_store.append_all([StreamWrite(stream, [Annotated(note=1)], ANY) for stream in order])
            return 1

        with threads(4) as submit:
            done = [submit(write, order) for order in (streams, streams[::-1], streams[2:] + streams[:2], streams)]
        assert sum(each.result() for each in done) == 4
        assert [event_store.version(stream) for stream in streams] == [80] * 4

    def test_writes_from_a_generator_are_stored(self) -> None:
        streams = [StreamId("ledger", key) for key in ("l-1", "l-2")]
        event_store.append_all(StreamWrite(stream, [LedgerOpened(owner="Ada")], 0) for stream in streams)  # type: ignore[arg-type]
        ledgers.save_all(Ledger.open(key) for key in ("l-3", "l-4"))
        assert len(event_store.read_all().events) == 4


class TestReading:
    def test_a_long_stream_is_read_from_either_end_and_from_any_version(self) -> None:
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

    def test_the_log_is_read_by_category_and_by_type(self) -> None:
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
        assert list(event_store.read_all(limit=1).events) == every.events[:1]

    def test_an_event_has_the_time_at_which_it_was_stored(self) -> None:
        (stored,) = event_store.append(StreamId("ledger", "l-1"), [LedgerOpened(owner="Ada")], expected=0)
        assert abs(datetime.now(UTC) - stored.recorded_at) < timedelta(minutes=5)
        assert [stored] == list(ledgers.history("l-1")) == list(event_store.read_all().events)

    def test_a_string_in_place_of_a_list_is_an_error(self) -> None:
        with pytest.raises(TypeError, match="categories must be a list"):
            event_store.read_all(categories="ledger")
        with pytest.raises(TypeError, match="keys must be a list"):
            ledgers.get_many("l-1")


class TestNames:
    def test_keys_with_any_characters_do_not_collide(self) -> None:
        for key in dict.fromkeys(NAMES):
            ledgers.save(Ledger.open(key, owner=key))
        assert [ledgers.get(key).owner for key in NAMES] == NAMES
        assert [ledger.owner for ledger in ledgers.get_many(NAMES).values()] == list(dict.fromkeys(NAMES))
        assert len(event_store.read_all().events) == len(set(NAMES))

    def test_streams_whose_joined_category_and_key_are_equal_stay_separate(self) -> None:
        streams = [StreamId(name, "key") for name in dict.fromkeys(NAMES)]
        for separator in "-/:|$@#_., \t\x1f":
            streams += [StreamId(f"a{separator}b", "c"), StreamId("a", f"b{separator}c")]
        streams = list(dict.fromkeys(streams))
        for number, stream in enumerate(streams):
            event_store.append(stream, [Annotated(note=number)], expected=0)
        for number, stream in enumerate(streams):
            (recorded,) = event_store.read_stream(stream)
            assert (recorded.stream, recorded.event) == (stream, Annotated(note=number))


class TestMetadata:
    def test_metadata_is_stored_with_the_events(self) -> None:
        with metadata(correlation_id="c-1", causation_id="e-0", user="ada"), metadata(user="grace", tenant="t"):
            ledgers.save(Ledger.open("l-1"))
        (recorded,) = ledgers.history("l-1")
        assert recorded.metadata == {"correlation_id": "c-1", "causation_id": "e-0", "user": "grace", "tenant": "t"}

    @pytest.mark.database_alone
    def test_metadata_with_a_column_of_its_own_is_stored_there(self) -> None:
        with metadata(correlation_id="c-1", causation_id="e-0", user="ada"):
            ledgers.save(Ledger.open("l-1"))
        stored = StoredEvent.objects.get()
        assert (stored.correlation_id, stored.causation_id, stored.metadata) == ("c-1", "e-0", {"user": "ada"})

    @pytest.mark.parametrize("metadata", [{"tenant": None}, {1: "x"}, {"tenant": uuid4()}])
    def test_metadata_that_is_not_text_is_an_error_and_nothing_is_written(self, metadata: Any) -> None:
        with pytest.raises(PayloadError, match="must be strings"):
            event_store.append(StreamId("ledger", "l-1"), [LedgerOpened(owner="Ada")], expected=0, metadata=metadata)
        assert event_store.version(StreamId("ledger", "l-1")) == 0

    def test_a_correlation_id_over_255_characters_is_an_error(self) -> None:
        with metadata(correlation_id="x" * 256), pytest.raises(PayloadError, match="1 to 255 characters"):
            ledgers.save(Ledger.open("l-1"))

    def test_invalid_metadata_is_accepted_for_a_write_without_events(self) -> None:
        stream = StreamId("ledger", "l-1")
        with metadata(correlation_id="c" * 300):
            assert event_store.append(stream, [], expected=ANY) == []
            with pytest.raises(PayloadError, match="1 to 255 characters"):
                event_store.append(stream, [LedgerOpened(owner="Ada")], expected=0)


class TestStoredRows:
    @pytest.mark.database_alone
    @pytest.mark.parametrize("expected", [ANY, STREAM_EXISTS, 1], ids=str)
    def test_a_stream_records_when_it_was_created_and_last_updated(self, expected: ExpectedVersion) -> None:
        stream = StreamId("ledger", "l-1")
        event_store.append(stream, [LedgerOpened(owner="Ada")], expected=0)
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        Stream.objects.update(created_at=long_ago, updated_at=long_ago)
        event_store.append(stream, [Deposited(amount=Decimal(1))], expected=expected)
        kept = Stream.objects.get()
        assert (kept.created_at, kept.updated_at > long_ago) == (long_ago, True)

    def test_a_payload_that_is_nested_too_deeply_is_an_error(self) -> None:
        note: list[Any] = []
        for _ in range(100_000):
            note = [note]
        with pytest.raises(PayloadError, match="nested too deeply"):
            Ledger("l-1").annotate(note)

    @pytest.mark.database_alone
    @pytest.mark.django_db(transaction=True)
    def test_a_write_with_autocommit_off_and_outside_atomic_is_an_error(
        self,
        recorder: type[Recorder],
    ) -> None:
        transaction.set_autocommit(False)
        try:
            with pytest.raises(transaction.TransactionManagementError, match=r"inside atomic\(\)"):
                ledgers.save(Ledger.open("l-1"))
            with pytest.raises(transaction.TransactionManagementError, match=r"inside atomic\(\)"):
                outbox.send("tests", type="noted", data=None)
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)
