"""The port of the event store: what every backend promises.

An append commits its events, the messages they give rise to and the inline projections they move together or not at
all, and only if each stream is where the writer expected it. Without that, a lost update or a half-written change
would pass unseen.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from enum import Enum
from typing import Final, Literal
from uuid import UUID

import msgspec
from asgiref.sync import sync_to_async

from es_django import conf
from es_django.aggregates import Outcome
from es_django.errors import DuplicateEvent, DuplicateMessage, DuplicateStream, PayloadError
from es_django.events import MAX_NAME_LENGTH, Event, PendingEvent, RecordedEvent, StagedEvent, StreamId, registry
from es_django.metadata import COLUMNS_OF_METADATA, current_metadata
from es_django.payloads import encode_payload
from es_django.store.messages import Message, StagedMessage
from es_django.store.reactions import inline_projections, is_replaying, message_sources


class Expected(Enum):
    """What a writer expects of a stream, where it is not a certain version."""

    ANY = "any version"
    NO_STREAM = "no stream"
    STREAM_EXISTS = "an existing stream"

    def __str__(self) -> str:
        return self.value


ANY: Final = Expected.ANY
NO_STREAM: Final = Expected.NO_STREAM
STREAM_EXISTS: Final = Expected.STREAM_EXISTS

ExpectedVersion = int | Literal[Expected.ANY, Expected.NO_STREAM, Expected.STREAM_EXISTS]


class Snapshot(msgspec.Struct, frozen=True):
    """A state that was folded, as JSON, and the schema that tells which code can read it."""

    schema: str
    state: str


class StreamWrite(msgspec.Struct, frozen=True):
    """Events to append to one stream, if it is where `expected` says; and the state after them, to be cached."""

    stream: StreamId
    events: Sequence[Event | PendingEvent]
    expected: ExpectedVersion
    snapshot: Snapshot | None = None


class Append(msgspec.Struct, frozen=True):
    """A write with all that the backend has to store, encoded."""

    stream: StreamId
    events: Sequence[PendingEvent]
    expected: ExpectedVersion
    messages: Sequence[StagedMessage]
    metadata: Mapping[str, str]
    encoded_metadata: str
    """The metadata that has no column of its own."""
    snapshot: Snapshot | None
    may_repeat: bool
    """Whether the events may be stored already without the version telling so."""

    @property
    def creates(self) -> bool:
        """Whether the stream may be new."""
        return self.expected in (0, ANY, NO_STREAM)

    @property
    def version(self) -> int | None:
        """The version that the stream must have, or None if any will do."""
        if self.expected is NO_STREAM:
            return 0
        return self.expected if isinstance(self.expected, int) else None


class Loaded(msgspec.Struct, frozen=True):
    """What an aggregate is folded from: a snapshot, if there was a fitting one, with its version; and what follows it,
    each version with the events that it holds today."""

    snapshot: tuple[int, str] | None
    tail: Iterator[tuple[int, Sequence[Event]]]


class Page(msgspec.Struct, frozen=True):
    """Events of the whole log, in order, and the position from which to read on."""

    events: Sequence[RecordedEvent]
    position: int


class Partition(msgspec.Struct, frozen=True):
    """One of `count` shares of all streams, numbered from 0; a stream's events are in one share, told by a hash.

    Raises `ValueError` for a share that does not exist.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise ValueError(f"of {self.count} partitions none has the number {self.number}")


WHOLE: Final = Partition(0, 1)


class EventStore(ABC):
    """Append to streams and read them, alone or all together."""

    def append(
        self,
        stream: StreamId,
        events: Sequence[Event | PendingEvent],
        *,
        expected: ExpectedVersion,
        metadata: Mapping[str, str] | None = None,
    ) -> list[RecordedEvent]:
        """Appends events to a stream and returns them as stored.

        `expected` is the version that the stream must have, or `ANY`, `NO_STREAM` or `STREAM_EXISTS`. `metadata` is
        added to what the context holds. All or nothing, in the caller's transaction if there is one. Appending the
        same `PendingEvent`s again, at the same place, stores nothing and returns what is stored.

        Raises `ConcurrencyError` if the stream is elsewhere, `StreamArchived` if it takes no more events,
        `DuplicateEvent` if some of the events are stored already, `PayloadError` if a payload cannot be stored,
        `ValueError` for an `expected` that is no version, and `StorageError` if the database fails.
        """
        return self.append_all([StreamWrite(stream, events, expected)], metadata=metadata)

    def append_all(
        self, writes: Sequence[StreamWrite], *, metadata: Mapping[str, str] | None = None
    ) -> list[RecordedEvent]:
        """Appends to several streams, all or nothing. As `append`; a stream may stand in one write only
        (`DuplicateStream`). The events come back in the order of the log."""
        _refuse_duplicate_streams(writes)
        known = {**current_metadata(), **(metadata or {})}
        # In one order everywhere, so that two writers of the same streams cannot deadlock.
        ordered = sorted((write for write in writes if write.events), key=lambda write: write.stream)
        appends = [_prepare(write, known) for write in ordered]
        _refuse_duplicate_ids(appends)
        return self._write(appends) if appends else []

    @abstractmethod
    def _write(self, appends: Sequence[Append]) -> list[RecordedEvent]:
        """Calls `_append_each` in a transaction."""

    def _append_each(self, appends: Sequence[Append]) -> list[RecordedEvent]:
        """Appends, and moves the inline projections by what is new."""
        # Asked before the first position is drawn, so that a rebuild can wait for all who were told otherwise.
        suspended = self._suspended_projections() if projections_of(appends) else frozenset()
        recorded: list[RecordedEvent] = []
        new: list[RecordedEvent] = []
        for append in appends:
            events = self._repeated(append) if append.may_repeat else None
            if events is None:
                events = self._append(append)
                if events is None:
                    events = self._repeated_or_refused(append)
                else:
                    new += events
            recorded += events
        run_inline_projections(new, besides=suspended)
        return recorded

    def _suspended_projections(self) -> Set[str]:
        """The inline projections that a rebuild moves at this time, and no append."""
        return frozenset()

    @abstractmethod
    def _append(self, append: Append) -> list[RecordedEvent] | None:
        """Stores the events, or nothing and returns None if the stream is elsewhere."""

    @abstractmethod
    def _repeated(self, append: Append) -> list[RecordedEvent] | None:
        """What is stored of an append whose version would not tell; None if nothing is. Raises `DuplicateEvent` if that
        is not the very same append."""

    @abstractmethod
    def _repeated_or_refused(self, append: Append) -> list[RecordedEvent]:
        """What is stored, if the stream is elsewhere because this very append has been there; else the refusal."""

    def send(self, message: Message) -> None:
        """Stores a message that tells of no event, in the caller's transaction if there is one.

        Raises `PayloadError` if its data cannot be stored, and `DuplicateMessage` if its id is stored already. Stores
        nothing while a projection is given events again.
        """
        staged = _stage(message, 0)
        if not is_replaying():
            self._send(staged)

    @abstractmethod
    def _send(self, staged: StagedMessage) -> None: ...

    @abstractmethod
    def archive(self, stream: StreamId) -> None:
        """Closes a stream for good, in the caller's transaction if there is one: it is read and loaded as before, and
        every later append to it raises `StreamArchived`. Archiving it again changes nothing.

        An append that is in flight comes before it or is refused. Raises `AggregateNotFound` if the stream has no
        events, and `StorageError` if the database fails.
        """

    def read_stream(
        self, stream: StreamId, *, after: int = 0, limit: int | None = None, backwards: bool = False
    ) -> Iterator[RecordedEvent]:
        """The events of a stream with a version above `after`, in order of version; the newest first if `backwards`.

        They come in bounded memory. Raises the kind of `ReplayError` that tells why an event cannot be read, and
        `ValueError` for a negative `after` or `limit`.
        """
        _refuse_no_number(after=after, limit=0 if limit is None else limit)
        return self._read_stream(stream, after, limit, backwards)

    @abstractmethod
    def _read_stream(
        self, stream: StreamId, after: int, limit: int | None, backwards: bool
    ) -> Iterator[RecordedEvent]: ...

    @abstractmethod
    def load(self, stream: StreamId, *, schema: str | None = None, limit: int | None = None) -> Loaded:
        """What to fold: all events, or at most `limit`; or those after the snapshot of that `schema`, if there is one.

        A snapshot that is ahead of its stream does not count.
        """

    @abstractmethod
    def load_many(self, category: str, keys: Sequence[str], *, schema: str | None = None) -> dict[str, Loaded]:
        """As `load`, for several streams of one category at once; those without events are absent."""

    @abstractmethod
    def contains(self, event_id: UUID) -> bool:
        """Whether an event of this id is stored."""

    @abstractmethod
    def lock(self, stream: StreamId, timeout: float | None) -> AbstractContextManager[None]:
        """A transaction that has the stream to itself, among those that ask for it here, in order of arrival.

        Raises `LockTimeout` after `timeout` seconds of waiting.
        """

    def read_all(
        self,
        *,
        after: int = 0,
        limit: int = 1000,
        categories: Iterable[str] | None = None,
        types: Iterable[type[Event]] | None = None,
        partition: Partition | None = None,
    ) -> Page:
        """The next events of the whole log with a position above `after`, at most `limit` of them; only those of some
        `categories`, event classes or one share of the streams, if given.

        It never skips an event that commits later: it ends before the first one that still could. Reading on from
        `Page.position` sees each event exactly once, also where a filter leaves a page empty. Inside a transaction the
        events that it has appended itself are there too, up to that end. A page ends before an event that cannot be
        read, and one that would begin with it raises its `ReplayError`, with its `position`. Raises `ValueError` for a
        negative `after` or `limit`.
        """
        _refuse_no_number(after=after, limit=limit)
        if limit == 0:
            return Page([], after)
        stored_names = None if types is None else registry.stored_names(types)
        wanted = None if categories is None else list(categories)
        return self._read_all(after, limit, wanted, stored_names, partition or WHOLE)

    @abstractmethod
    def _read_all(
        self, after: int, limit: int, categories: list[str] | None, types: list[str] | None, partition: Partition
    ) -> Page: ...

    @abstractmethod
    def safe_end(self) -> int:
        """The position up to which no event can appear any more; `read_all` ends there."""

    @abstractmethod
    def version(self, stream: StreamId) -> int:
        """The number of events in a stream; 0 if there is none."""

    async def aappend(
        self,
        stream: StreamId,
        events: Sequence[Event | PendingEvent],
        *,
        expected: ExpectedVersion,
        metadata: Mapping[str, str] | None = None,
    ) -> list[RecordedEvent]:
        """As `append`."""
        return await sync_to_async(self.append)(stream, events, expected=expected, metadata=metadata)

    async def aappend_all(
        self, writes: Sequence[StreamWrite], *, metadata: Mapping[str, str] | None = None
    ) -> list[RecordedEvent]:
        """As `append_all`."""
        return await sync_to_async(self.append_all)(writes, metadata=metadata)

    async def aarchive(self, stream: StreamId) -> None:
        """As `archive`."""
        await sync_to_async(self.archive)(stream)

    async def aread_stream(
        self, stream: StreamId, *, after: int = 0, limit: int | None = None, backwards: bool = False
    ) -> list[RecordedEvent]:
        """As `read_stream`, all at once."""
        read = self.read_stream
        return await sync_to_async(lambda: list(read(stream, after=after, limit=limit, backwards=backwards)))()

    async def aread_all(
        self,
        *,
        after: int = 0,
        limit: int = 1000,
        categories: Iterable[str] | None = None,
        types: Iterable[type[Event]] | None = None,
        partition: Partition | None = None,
    ) -> Page:
        """As `read_all`."""
        read = sync_to_async(self.read_all)
        return await read(after=after, limit=limit, categories=categories, types=types, partition=partition)

    async def aversion(self, stream: StreamId) -> int:
        """As `version`."""
        return await sync_to_async(self.version)(stream)

    @abstractmethod
    def outcome(self) -> Outcome:
        """What tells later whether everything written in the current transaction up to now was committed."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """A block in which appends commit or vanish together."""

    @property
    @abstractmethod
    def in_transaction(self) -> bool:
        """Whether the caller has a transaction open, so that a conflict cannot be retried here."""


def _refuse_duplicate_streams(writes: Sequence[StreamWrite]) -> None:
    seen: set[StreamId] = set()
    for write in writes:
        if write.stream in seen:
            raise DuplicateStream(write.stream)
        seen.add(write.stream)


def _refuse_duplicate_ids(appends: Sequence[Append]) -> None:
    events = Counter(event.event_id for append in appends for event in append.events)
    if twice := [event_id for event_id, count in events.items() if count > 1]:
        raise DuplicateEvent(twice)
    messages = Counter(staged.message.message_id for append in appends for staged in append.messages)
    if twice := [message_id for message_id, count in messages.items() if count > 1]:
        raise DuplicateMessage(twice)


def _prepare(write: StreamWrite, metadata: Mapping[str, str]) -> Append:
    expected = write.expected
    if not isinstance(expected, Expected) and not _is_number(expected):
        raise ValueError(f"expected is a version from 0 on, or ANY, NO_STREAM or STREAM_EXISTS, not {expected!r}")
    events = [event if isinstance(event, PendingEvent) else PendingEvent(event) for event in write.events]
    messages = [
        _stage(message, ordinal)
        for ordinal, event in enumerate(events, start=1)
        for message in _messages(StagedEvent(write.stream, event.event, event.event_id, metadata))
    ]
    may_repeat = expected in (ANY, STREAM_EXISTS) and any(isinstance(event, PendingEvent) for event in write.events)
    for name in COLUMNS_OF_METADATA:
        value = metadata.get(name, "")
        if not isinstance(value, str):
            raise PayloadError("metadata", name, f"must be text, not {value!r}")
        if len(value) > MAX_NAME_LENGTH:
            raise PayloadError("metadata", name, f"has more than {MAX_NAME_LENGTH} characters")
        encode_payload(value, f"metadata.{name}")
    rest = {name: value for name, value in metadata.items() if name not in COLUMNS_OF_METADATA}
    encoded = encode_payload(rest, "metadata") if rest else "{}"
    return Append(write.stream, events, expected, messages, metadata, encoded, write.snapshot, may_repeat)


def _is_number(value: object) -> bool:
    """Whether it counts versions or positions: neither a truth value nor more than the databases can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _refuse_no_number(**values: object) -> None:
    for name, value in values.items():
        if not _is_number(value):
            raise ValueError(f"{name} is a number from 0 on, not {value!r}")


def _stage(message: Message, ordinal: int) -> StagedMessage:
    data = encode_payload(message.data, message.type)
    limit = conf.settings().outbox.max_bytes
    if (size := len(data.encode())) > limit:
        advice = f'more than the {limit} of ES_DJANGO["OUTBOX"]["MAX_BYTES"]: send a reference to it instead'
        raise PayloadError(message.type, "", f"has {size} bytes of data, {advice}")
    return StagedMessage(message, ordinal, data, encode_payload(message.headers, f"{message.type} headers"))


def _messages(staged: StagedEvent) -> Iterator[Message]:
    for source in () if is_replaying() else message_sources.get(type(staged.event), ()):
        message = source(staged)
        if message is not None:
            yield message


def projections_of(appends: Iterable[Append]) -> bool:
    """Whether an inline projection follows any of these events."""
    classes = {type(event.event) for append in appends for event in append.events}
    return any(projection.event_classes & classes for projection in inline_projections)


def run_inline_projections(recorded: Sequence[RecordedEvent], *, besides: Set[str]) -> None:
    """Applies the events to the inline projections that follow them, in the order of registration, all `besides`
    some."""
    for projection in inline_projections:
        followed = [event for event in recorded if type(event.event) in projection.event_classes]
        if followed and projection.name not in besides:
            projection.project_batch(followed)
