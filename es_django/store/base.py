"""The port of the event store: the operations and guarantees that every backend provides.

An append commits its events, their outbox messages and the inline projections together, or commits nothing. It commits
only if each stream is at the version that the writer expects. These rules prevent lost updates and half-stored changes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Final
from uuid import UUID

from asgiref.sync import sync_to_async

from es_django.core.aggregates import IsCommitted
from es_django.core.events import Event, PendingEvent, RecordedEvent
from es_django.core.instrumentation import Kind, Work, listeners
from es_django.core.metadata import current_metadata
from es_django.core.registry import registry
from es_django.core.streams import StreamId, require_stream
from es_django.core.validation import require_many, require_position
from es_django.messages.message import Message, StagedMessage
from es_django.store.errors import AlreadyAppended, AppendInReplay, DuplicateEvent
from es_django.store.hooks import is_replaying
from es_django.store.reads import ALL_STREAMS, Loaded, Page, Partition
from es_django.store.writes import Append, ExpectedVersion, StreamWrite, prepare_all, stage

SEVERAL_CATEGORIES: Final = "(several)"
"""The category that metrics and traces show for an append to streams of more than one category."""


class EventStore(ABC):
    """A store that appends events to streams, and reads events by stream or in the order of the log.

    Projects call `append`, `append_all`, `archive`, `read_stream`, `read_all` and `version`. Each of these methods has
    an asynchronous twin. Repositories, the outbox and projections call the other methods, from synchronous code.
    """

    def append(
        self,
        stream: StreamId,
        events: Sequence[Event | PendingEvent],
        *,
        expected: ExpectedVersion,
        metadata: Mapping[str, str] | None = None,
    ) -> list[RecordedEvent]:
        """Append events to a stream, all or none, in the caller's transaction if there is one.

        `expected` is the version that the stream must have, or `ANY`, `NO_STREAM` or `STREAM_EXISTS`. `metadata` is
        added to the current metadata. Return the events as stored.

        Appending the same `PendingEvent`s again at the same place stores nothing and returns the stored events. Inside
        the caller's transaction it raises `AlreadyAppended` instead, because the caller's other writes would be done
        twice. The same events have the same ids, types, schema versions and payloads; the metadata may differ.

        Without events, check the expected version, and keep other writers from the stream until the transaction ends.

        Raises:
            ConcurrencyError: The stream is not at the expected version.
            AggregateExists: The stream was to be created, but has events. This is a kind of `ConcurrencyError`.
            AlreadyAppended: The same events are stored, and the caller has a transaction open.
            StreamArchived: The stream is archived.
            DuplicateEvent: An event with one of these ids is already stored, by an append that differs from this one.
            PayloadError: A payload cannot be stored.
            AppendInReplay: A projection appends while its events are replayed.
            ValueError: `expected` is not a version.
            StorageError: The database failed.
        """
        return self.append_all([StreamWrite(stream, events, expected)], metadata=metadata)

    def append_all(
        self, writes: Sequence[StreamWrite], *, metadata: Mapping[str, str] | None = None
    ) -> list[RecordedEvent]:
        """Append to several streams, all or nothing. Return the events in the order of the log.

        The order of the log is the order of `writes`. Streams are locked in one fixed order, so two calls cannot
        deadlock. Raise the errors of `append`, and `DuplicateStream` if two writes have the same stream.
        """
        with Work(Kind.APPEND) as work:
            appends = prepare_all(list(writes), {**current_metadata(), **(metadata or {})})
            if not appends:
                return []
            if is_replaying():
                raise AppendInReplay(appends[0].stream)
            belongs_to_caller = self.in_transaction
            if listeners:
                categories = {append.stream.category for append in appends}
                work.subject = categories.pop() if len(categories) == 1 else SEVERAL_CATEGORIES
                work.size = sum(len(append.events) for append in appends)
            try:
                recorded, are_new = self._append_all(appends)
            except DuplicateEvent:
                if belongs_to_caller or not any(append.may_repeat for append in appends):
                    raise
                # Another attempt at the same append may have committed meanwhile. This call finds its events.
                recorded, are_new = self._append_all(appends)
            if not are_new and belongs_to_caller:
                raise AlreadyAppended(recorded)
            return recorded

    @abstractmethod
    def _append_all(self, appends: Sequence[Append]) -> tuple[list[RecordedEvent], bool]:
        """Append by `idempotency.append_all_once` and run the inline projections, all in one transaction.

        Return the events as stored, and whether they are new.
        """

    @abstractmethod
    def _hold(self, streams: Sequence[StreamId]) -> list[int]:
        """Keep other writers from these streams, in this order, until the transaction ends. Return their versions.

        A stream without events has version 0. Other writers cannot create it.
        """

    @abstractmethod
    def _find_events(self, event_ids: Sequence[UUID]) -> list[tuple[StreamId, int, UUID]]:
        """Return the stream, version and id of each stored event with one of these ids, in order of version."""

    @abstractmethod
    def _stream_state(self, stream: StreamId) -> tuple[int, bool]:
        """Return the version of a stream (0 if the stream has no events), and whether the stream is archived."""

    def send(self, message: Message) -> None:
        """Store an outbox message that belongs to no event, in the caller's transaction if there is one.

        While a projection's events are replayed, store nothing. Raise `PayloadError` if the data of the message cannot
        be stored, and `DuplicateMessage` if a message with the same id is already stored.
        """
        staged = stage(message, 0)
        if not is_replaying():
            self._send(staged)

    @abstractmethod
    def _send(self, staged: StagedMessage) -> None: ...

    def archive(self, stream: StreamId) -> None:
        """Close a stream to appends, for good, in the caller's transaction if there is one.

        The stream can still be read and loaded. Every later append to the stream raises `StreamArchived`. An append in
        flight either commits before the stream is archived or raises `StreamArchived`. Archiving a stream again changes
        nothing. Raise `AggregateNotFound` if the stream has no events, and `StorageError` if the database fails.
        """
        require_stream(stream)
        self._archive(stream)

    @abstractmethod
    def _archive(self, stream: StreamId) -> None: ...

    def read_stream(
        self, stream: StreamId, *, after: int = 0, limit: int | None = None, backwards: bool = False
    ) -> Iterator[RecordedEvent]:
        """Yield the events of a stream with a version above `after`, oldest first; newest first if `backwards`.

        `limit` is the largest number of events to yield. If upcasters made several events of one stored event, they
        share its version, and each counts. `backwards` gives exactly the reverse order.

        The events are read page by page, so memory stays bounded. Raise a `ReplayError` that names the reason if an
        event cannot be read, and `ValueError` if `after` or `limit` is negative.
        """
        require_stream(stream)
        require_position(after=after, limit=0 if limit is None else limit)
        return islice(self._read_stream(stream, after, limit, backwards), limit)

    @abstractmethod
    def _read_stream(
        self, stream: StreamId, after: int, wanted: int | None, backwards: bool
    ) -> Iterator[RecordedEvent]:
        """Yield all events after version `after`. Of more than `wanted` events, the caller reads only the first."""

    @abstractmethod
    def load(self, stream: StreamId, *, schema: str | None = None, limit: int | None = None) -> Loaded:
        """Return what an aggregate is folded from.

        With `schema`, return the snapshot of this schema and all events after it, or all events if there is no such
        snapshot; `limit` is ignored. Without `schema`, return the first `limit` events, or all events if it is None. A
        snapshot whose version is above the version of the stream is ignored.
        """

    @abstractmethod
    def load_many(self, category: str, keys: Sequence[str], *, schema: str | None = None) -> dict[str, Loaded]:
        """Load several streams of one category in one query, as `load` does. Leave out the streams without events."""

    @abstractmethod
    def contains(self, event_id: UUID) -> bool:
        """Return whether an event with this id is stored."""

    @abstractmethod
    def lock(self, stream: StreamId, timeout: float | None) -> AbstractContextManager[None]:
        """Open a transaction that holds the stream's lock. Callers get the lock in order of arrival.

        Raise `LockTimeout` after waiting for `timeout` seconds. If `timeout` is None, wait without limit.
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
        """Return the next events of the log: those with a position above `after`, at most `limit`.

        `categories`, `types` (event classes) and `partition` each restrict the events. The page ends at the safe end
        of the log, so it never skips an event that commits later. Reading on from `Page.position` gives each event
        exactly once, even if a filter leaves a page empty. Inside a transaction, the page includes the events that the
        transaction itself appended, up to the safe end.

        A page ends before an event that cannot be read. If the first event cannot be read, raise a `ReplayError` that
        has the `position` of the event. Raise `ValueError` if `after` or `limit` is negative.
        """
        require_position(after=after, limit=limit)
        require_many("types", types, type)
        require_many("categories", categories, str)
        if limit == 0:
            return Page([], after)
        stored_names = None if types is None else registry.stored_names(types)
        wanted = None if categories is None else list(categories)
        return self._read_all(after, limit, wanted, stored_names, partition or ALL_STREAMS)

    @abstractmethod
    def _read_all(
        self, after: int, limit: int, categories: list[str] | None, types: list[str] | None, partition: Partition
    ) -> Page: ...

    @abstractmethod
    def safe_end(self) -> int:
        """Return the safe end of the log. No event can still appear at or below this position."""

    def version(self, stream: StreamId) -> int:
        """Return the number of events in a stream."""
        require_stream(stream)
        version, _ = self._stream_state(stream)
        return version

    async def aappend(
        self,
        stream: StreamId,
        events: Sequence[Event | PendingEvent],
        *,
        expected: ExpectedVersion,
        metadata: Mapping[str, str] | None = None,
    ) -> list[RecordedEvent]:
        """The asynchronous twin of `append`."""
        return await sync_to_async(self.append)(stream, events, expected=expected, metadata=metadata)

    async def aappend_all(
        self, writes: Sequence[StreamWrite], *, metadata: Mapping[str, str] | None = None
    ) -> list[RecordedEvent]:
        """The asynchronous twin of `append_all`."""
        return await sync_to_async(self.append_all)(writes, metadata=metadata)

    async def aarchive(self, stream: StreamId) -> None:
        """The asynchronous twin of `archive`."""
        await sync_to_async(self.archive)(stream)

    async def aread_stream(
        self, stream: StreamId, *, after: int = 0, limit: int | None = None, backwards: bool = False
    ) -> list[RecordedEvent]:
        """The asynchronous twin of `read_stream`. Return all events in one list."""
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
        """The asynchronous twin of `read_all`."""
        read = sync_to_async(self.read_all)
        return await read(after=after, limit=limit, categories=categories, types=types, partition=partition)

    async def aversion(self, stream: StreamId) -> int:
        """The asynchronous twin of `version`."""
        return await sync_to_async(self.version)(stream)

    @abstractmethod
    def commit_tracker(self) -> IsCommitted:
        """Return a function that reports whether the current transaction, or savepoint, was committed."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Open a block whose appends commit together or not at all.

        Raise `StorageError` if the transaction cannot begin or commit. Errors of the block pass unchanged.
        """

    @property
    @abstractmethod
    def in_transaction(self) -> bool:
        """Whether the caller has a transaction open. If so, only the caller can retry after a conflict.

        The transaction that Django's `TestCase` puts around a test is not the caller's.
        """
