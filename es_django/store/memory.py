"""The event store in memory: the shortest complete implementation of the port, for tests without a database.

One thread writes at a time, for a whole transaction, so a rollback only cuts off the end of the log. Readers in other
threads do not wait, and see committed events only.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID
from zlib import crc32

import msgspec

from es_django.core.aggregates import IsCommitted, already_committed
from es_django.core.events import Event, RecordedEvent
from es_django.core.registry import registry
from es_django.core.replay_errors import ReplayError
from es_django.core.streams import StreamId
from es_django.messages.message import Message, StagedMessage
from es_django.store.base import EventStore
from es_django.store.errors import (
    AggregateNotFound,
    DuplicateEvent,
    DuplicateMessage,
    LockTimeout,
)
from es_django.store.fair_lock import fair_lock
from es_django.store.hooks import run_inline_projections
from es_django.store.idempotency import append_all_once
from es_django.store.reads import Loaded, Page, Partition
from es_django.store.writes import STREAM_EXISTS, Append, Snapshot


class _Stored(msgspec.Struct, frozen=True):
    recorded: RecordedEvent
    data: str

    def events(self) -> list[Event]:
        recorded = self.recorded
        return registry.decode(recorded.stream, recorded.version, recorded.type, recorded.schema_version, self.data)


class _Savepoint:
    """The state to which a rollback returns, and whether the changes since then are committed (None while open)."""

    def __init__(self, store: "MemoryEventStore") -> None:
        self.events = len(store._log)
        self.messages = len(store.messages)
        self.snapshots = dict(store._snapshots)
        self.archived = set(store._archived)
        self.committed: bool | None = None

    def is_committed(self) -> bool | None:
        return self.committed


class MemoryEventStore(EventStore):
    """An event store that starts empty. `messages` are the outbox messages, in the order in which they were sent."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._sent_at: list[float] = []
        self._committed_messages = 0
        self._writer = threading.RLock()
        self._owner: int | None = None
        self._log: list[_Stored] = []
        self._committed = 0
        self._streams: defaultdict[StreamId, list[_Stored]] = defaultdict(list)
        self._snapshots: dict[StreamId, list[tuple[int, Snapshot]]] = {}
        self._archived: set[StreamId] = set()
        self._open: list[_Savepoint] = []
        self._savepoints: list[_Savepoint] = []

    @property
    def in_transaction(self) -> bool:
        return self._owner == threading.get_ident()

    def commit_tracker(self) -> IsCommitted:
        return self._open[-1].is_committed if self.in_transaction else already_committed

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._writer:
            self._owner = threading.get_ident()
            savepoint = _Savepoint(self)
            self._open.append(savepoint)
            first = len(self._savepoints)
            self._savepoints.append(savepoint)
            try:
                yield
            except BaseException:
                self._roll_back_to(savepoint)
                for undone in self._savepoints[first:]:
                    undone.committed = False
                raise
            finally:
                self._open.pop()
                if not self._open:
                    self._end_transaction()

    def _roll_back_to(self, savepoint: _Savepoint) -> None:
        for stored in self._log[savepoint.events :]:
            self._streams[stored.recorded.stream].pop()
        del self._log[savepoint.events :]
        del self.messages[savepoint.messages :]
        del self._sent_at[savepoint.messages :]
        self._snapshots = savepoint.snapshots
        self._archived = savepoint.archived

    def _end_transaction(self) -> None:
        self._committed = len(self._log)
        self._committed_messages = len(self.messages)
        for savepoint in self._savepoints:
            savepoint.committed = savepoint.committed is None
        self._savepoints.clear()
        self._owner = None

    def _append_all(self, appends: Sequence[Append]) -> tuple[list[RecordedEvent], bool]:
        with self.transaction():
            recorded, are_new = append_all_once(self, appends, self._insert)
            if are_new:
                run_inline_projections(recorded)
        return recorded, are_new

    def _hold(self, streams: Sequence[StreamId]) -> list[int]:
        # The caller's transaction is the only writer.
        return [len(self._streams.get(stream, ())) for stream in streams]

    def _insert(self, append: Append) -> list[RecordedEvent] | None:
        stream = self._streams[append.stream]
        before = len(stream)
        fits = before > 0 if append.expected is STREAM_EXISTS else append.version in (None, before)
        if not fits or append.stream in self._archived:
            return None
        if known := self._find_events([event.event_id for event in append.events]):
            raise DuplicateEvent([event_id for *_, event_id in known])
        for number, pending in enumerate(append.events, start=1):
            event_type = registry.of(type(pending.event))
            recorded = RecordedEvent(
                append.stream,
                pending.own_event(),
                pending.event_id,
                append.metadata,
                before + number,
                len(self._log) + 1,
                event_type.name,
                event_type.version,
                datetime.now(UTC),
            )
            stored = _Stored(recorded, pending.data)
            self._log.append(stored)
            stream.append(stored)
        for staged in append.messages:
            self._add_message(staged, append.stream, before + staged.ordinal)
        if append.snapshot is not None:
            schema = append.snapshot.schema
            others = [each for each in self._snapshots.get(append.stream, ()) if each[1].schema != schema]
            # The newest snapshot comes first. The newest snapshot of another schema stays.
            self._snapshots[append.stream] = [(len(stream), append.snapshot), *others[:1]]
        return [stored.recorded.own() for stored in stream[before:]]

    def _send(self, staged: StagedMessage) -> None:
        with self.transaction():
            self._add_message(staged, None, None)

    def _add_message(self, staged: StagedMessage, stream: StreamId | None, version: int | None) -> None:
        message_id = staged.message.message_id
        if any(known.message_id == message_id for known in self.messages):
            raise DuplicateMessage([message_id])
        # A round trip through JSON, so that handlers get the same values as from a database.
        data, headers = msgspec.json.decode(staged.data), msgspec.json.decode(staged.headers)
        self.messages.append(
            msgspec.structs.replace(staged.message, data=data, headers=headers, stream=stream, stream_version=version)
        )
        self._sent_at.append(time.monotonic())

    def committed_messages(self) -> list[tuple[Message, float]]:
        """Return the committed messages in order, each with the time at which it was sent, on the monotonic clock."""
        return list(zip(self.messages, self._sent_at, strict=True))[: self._committed_messages]

    def _find_events(self, event_ids: Sequence[UUID]) -> list[tuple[StreamId, int, UUID]]:
        wanted = frozenset(event_ids)
        found = [each.recorded for each in self._visible(self._log) if each.recorded.event_id in wanted]
        return [(recorded.stream, recorded.version, recorded.event_id) for recorded in found]

    def _stream_state(self, stream: StreamId) -> tuple[int, bool]:
        return len(self._visible(self._streams.get(stream, ()))), stream in self._archived

    def _archive(self, stream: StreamId) -> None:
        with self.transaction():
            if not self._streams.get(stream):
                raise AggregateNotFound(stream)
            self._archived.add(stream)

    def _visible(self, stored: Iterable[_Stored]) -> list[_Stored]:
        end = len(self._log) if self.in_transaction else self._committed
        return [each for each in stored if each.recorded.position <= end]

    def _read_stream(
        self, stream: StreamId, after: int, wanted: int | None, backwards: bool
    ) -> Iterator[RecordedEvent]:
        found = self._visible(self._streams.get(stream, ()))[after:]
        for stored in found[::-1] if backwards else found:
            events = list(_recorded(stored))
            yield from reversed(events) if backwards else events

    def load(self, stream: StreamId, *, schema: str | None = None, limit: int | None = None) -> Loaded:
        found = self._visible(self._streams.get(stream, ()))[:limit]
        for version, snapshot in self._snapshots.get(stream, ()):
            if snapshot.schema == schema and version <= len(found):
                return Loaded((version, snapshot.state), _tail(found[version:]))
        return Loaded(None, _tail(found))

    def load_many(self, category: str, keys: Sequence[str], *, schema: str | None = None) -> dict[str, Loaded]:
        present = [key for key in keys if self.version(StreamId(category, key))]
        return {key: self.load(StreamId(category, key), schema=schema) for key in present}

    def contains(self, event_id: UUID) -> bool:
        return bool(self._find_events([event_id]))

    def _read_all(
        self, after: int, limit: int, categories: list[str] | None, types: list[str] | None, partition: Partition
    ) -> Page:
        visible = self._visible(self._log)
        matching = [
            stored
            for stored in visible[after:]
            if (categories is None or stored.recorded.stream.category in categories)
            and (types is None or stored.recorded.type in types)
            and _hash(stored.recorded.stream) % partition.count == partition.number
        ][:limit]
        has_more = len(matching) == limit
        end = matching[-1].recorded.position if has_more else max(after, len(visible))
        events: list[RecordedEvent] = []
        for index, stored in enumerate(matching):
            try:
                events += _recorded(stored)
            except ReplayError as error:
                if index == 0:
                    error.position = stored.recorded.position
                    raise
                return Page(events, matching[index - 1].recorded.position, has_more=True)
        return Page(events, end, has_more)

    def safe_end(self) -> int:
        return len(self._log) if self.in_transaction else self._committed

    @contextmanager
    def lock(self, stream: StreamId, timeout: float | None) -> Iterator[None]:
        # A thread with an open transaction is the only writer. It must not wait, because the holder of the lock may be
        # waiting for that transaction to end.
        is_only_writer = self.in_transaction
        with fair_lock((id(self), stream)).held(0 if is_only_writer else timeout) as granted:
            if not granted and not is_only_writer:
                raise LockTimeout(stream, timeout or 0)
            with self.transaction():
                yield


def _hash(stream: StreamId) -> int:
    return crc32(msgspec.json.encode(stream))


def _tail(found: Iterable[_Stored]) -> Iterator[tuple[int, Sequence[Event]]]:
    for stored in found:
        yield stored.recorded.version, stored.events()


def _recorded(stored: _Stored) -> Iterator[RecordedEvent]:
    for event in stored.events():
        yield msgspec.structs.replace(stored.recorded, event=event, metadata=dict(stored.recorded.metadata))
