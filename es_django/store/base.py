"""The port of the event store: what every backend promises.

An append commits its events, the messages they give rise to and the inline projections they move together or not at
all, and only if each stream is where the writer expected it. Without that, a lost update or a half-written change
would pass unseen.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from typing import Final, NoReturn
from uuid import UUID

import msgspec
from asgiref.sync import sync_to_async

from es_django.core.aggregates import IsCommitted
from es_django.core.events import Event, PendingEvent, RecordedEvent
from es_django.core.instrumentation import Kind, Work, listeners
from es_django.core.metadata import current_metadata
from es_django.core.registry import registry
from es_django.core.streams import StreamId, require_stream
from es_django.core.validation import require_many, require_position
from es_django.messages.message import Message, StagedMessage
from es_django.store.errors import AppendInReplay, ConcurrencyError, DuplicateEvent
from es_django.store.hooks import is_replaying, run_inline_projections
from es_django.store.writes import Append, ExpectedVersion, StreamWrite, prepare_all, stage


class Loaded(msgspec.Struct, frozen=True):
    """What an aggregate is folded from: a snapshot, if there was a fitting one, with its version; and what follows it,
    each version with the events that it holds today."""

    snapshot: tuple[int, str] | None
    tail: Iterator[tuple[int, Sequence[Event]]]


class Page(msgspec.Struct, frozen=True):
    """Events of the whole log, in order, the position from which to read on, and whether more can be read there now: a
    page without events is not always the last, since an event may be upcast to nothing."""

    events: Sequence[RecordedEvent]
    position: int
    has_more: bool = False


class Partition(msgspec.Struct, frozen=True):
    """One of `count` shares of all streams, numbered from 0; a stream's events are in one share, told by a hash.

    Raises `ValueError` for a share that does not exist.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise ValueError(f"of {self.count} partitions none has the number {self.number}")

    def holds(self, stream_id: int) -> bool:
        """Whether a stream of this id is in it, as the databases tell: neighbours are often alike, so their numbers are
        multiplied, and spread over all partitions."""
        return (((stream_id & 0x7FFFFFFF) * 2654435761) >> 16) % self.count == self.number


WHOLE: Final = Partition(0, 1)

SEVERAL: Final = "(several)"
"""In place of the category of an append to several."""


class EventStore(ABC):
    """Append to streams and read them, alone or all together.

    `append`, `append_all`, `archive`, `read_stream`, `read_all` and `version` are for everybody, and each has an
    asynchronous twin. The rest is what repositories, the outbox and projections ask of a backend, from code that is not
    asynchronous.
    """

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
        `AppendInReplay` in a projection that is given events again, `ValueError` for an `expected` that is no version,
        and `StorageError` if the database fails.
        """
        return self.append_all([StreamWrite(stream, events, expected)], metadata=metadata)

    def append_all(
        self, writes: Sequence[StreamWrite], *, metadata: Mapping[str, str] | None = None
    ) -> list[RecordedEvent]:
        """Appends to several streams, all or nothing. As `append`; a stream may stand in one write only
        (`DuplicateStream`). The events come back in the order of the log."""
        with Work(Kind.APPEND) as work:
            appends = prepare_all(list(writes), {**current_metadata(), **(metadata or {})})
            if not appends:
                return []
            if is_replaying():
                raise AppendInReplay(appends[0].stream)
            if listeners:
                categories = {append.stream.category for append in appends}
                work.subject = categories.pop() if len(categories) == 1 else SEVERAL
                work.size = sum(len(append.events) for append in appends)
            try:
                return self._write(appends)
            except ConcurrencyError:
                work.outcomes = {"conflict": work.size}
                raise
            except DuplicateEvent:
                # The first try of this append may have been in flight when its events were looked for.
                if self.in_transaction or not any(append.may_repeat for append in appends):
                    raise
                return self._write(appends)

    @abstractmethod
    def _write(self, appends: Sequence[Append]) -> list[RecordedEvent]:
        """Calls `_append_each` in a transaction, with what stores the events of one append."""

    def _append_each(
        self, appends: Sequence[Append], store: Callable[[Append], list[RecordedEvent] | None]
    ) -> list[RecordedEvent]:
        """Appends, and moves the inline projections by what is new. `store` stores the events of one append, or nothing
        and returns None if the stream is elsewhere."""
        recorded: list[RecordedEvent] = []
        new: list[RecordedEvent] = []
        repeated: list[UUID] = []
        followed = False
        for append in appends:
            followed = followed or append.followed_inline
            stored = self._repeated(append) if append.may_repeat else None
            if stored is None and (added := store(append)) is not None:
                new += added
                recorded += added
            else:
                repeated += [event.event_id for event in append.events]
                recorded += self._repeated_or_refused(append) if stored is None else stored
        if new and repeated:
            raise DuplicateEvent(repeated)
        if followed:
            run_inline_projections(new, besides=self._suspended_projections())
        return recorded

    def _suspended_projections(self) -> Set[str]:
        """The projections that are moved from a checkpoint and by no append, until this transaction ends."""
        return frozenset()

    @abstractmethod
    def _repeated(self, append: Append) -> list[RecordedEvent] | None:
        """What is stored of an append whose version would not tell; None if nothing is. Raises `DuplicateEvent` if that
        is not the very same append."""

    def _repeated_or_refused(self, append: Append) -> list[RecordedEvent]:
        """What is stored, if the stream is elsewhere because this very append has been there; else the refusal."""
        there = self._repeated(append)
        if there is not None and (not there or append.version in (None, there[0].version - 1)):
            return there
        self._refuse(append)

    @abstractmethod
    def _refuse(self, append: Append) -> NoReturn:
        """Raises `StreamArchived` or `ConcurrencyError`."""

    def send(self, message: Message) -> None:
        """Stores a message that tells of no event, in the caller's transaction if there is one.

        Raises `PayloadError` if its data cannot be stored, and `DuplicateMessage` if its id is stored already. Stores
        nothing while a projection is given events again.
        """
        staged = stage(message, 0)
        if not is_replaying():
            self._send(staged)

    @abstractmethod
    def _send(self, staged: StagedMessage) -> None: ...

    def archive(self, stream: StreamId) -> None:
        """Closes a stream for good, in the caller's transaction if there is one: it is read and loaded as before, and
        every later append to it raises `StreamArchived`. Archiving it again changes nothing.

        An append that is in flight comes before it or is refused. Raises `AggregateNotFound` if the stream has no
        events, and `StorageError` if the database fails.
        """
        require_stream(stream)
        self._archive(stream)

    @abstractmethod
    def _archive(self, stream: StreamId) -> None: ...

    def read_stream(
        self, stream: StreamId, *, after: int = 0, limit: int | None = None, backwards: bool = False
    ) -> Iterator[RecordedEvent]:
        """The events of a stream with a version above `after`, in order of version; the newest first if `backwards`.

        They come in bounded memory. Raises the kind of `ReplayError` that tells why an event cannot be read, and
        `ValueError` for a negative `after` or `limit`.
        """
        require_stream(stream)
        require_position(after=after, limit=0 if limit is None else limit)
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
        require_position(after=after, limit=limit)
        require_many("types", types, type)
        if limit == 0:
            return Page([], after)
        stored_names = None if types is None else registry.stored_names(types)
        if isinstance(categories, str):
            raise TypeError(f"categories are several, as in [{categories!r}], not one text")
        wanted = None if categories is None else list(categories)
        return self._read_all(after, limit, wanted, stored_names, partition or WHOLE)

    @abstractmethod
    def _read_all(
        self, after: int, limit: int, categories: list[str] | None, types: list[str] | None, partition: Partition
    ) -> Page: ...

    @abstractmethod
    def safe_end(self) -> int:
        """The position up to which no event can appear any more; `read_all` ends there."""

    def version(self, stream: StreamId) -> int:
        """The number of events in a stream; 0 if there is none."""
        require_stream(stream)
        return self._version(stream)

    @abstractmethod
    def _version(self, stream: StreamId) -> int: ...

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
    def commit_tracker(self) -> IsCommitted:
        """What tells later whether everything written in the current transaction up to now was committed."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """A block in which appends commit or vanish together."""

    @property
    @abstractmethod
    def in_transaction(self) -> bool:
        """Whether the caller has a transaction open, so that a conflict cannot be retried here."""
