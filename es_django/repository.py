"""Repositories load aggregates from their streams and save the events that they recorded."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async

from es_django.core.aggregates import Aggregate
from es_django.core.commands import Command
from es_django.core.equality import changed
from es_django.core.events import RecordedEvent
from es_django.core.logs import Log
from es_django.core.replay_errors import ReplayError
from es_django.core.streams import StreamId
from es_django.core.validation import require_count, require_many, require_position, require_seconds
from es_django.store.backends import store_for
from es_django.store.base import EventStore
from es_django.store.error_translation import is_conflict
from es_django.store.errors import AggregateNotFound, ConcurrencyError, DuplicateEvent, StorageError
from es_django.store.reads import Loaded
from es_django.store.snapshots import SnapshotCodec
from es_django.store.writes import Snapshot, StreamWrite

logger: Log = Log("es_django.repository")

A = TypeVar("A", bound=Aggregate)

_FIRST_PAUSE = 0.01
_MAX_PAUSE = 1.0
_ONE_ATTEMPT = (
    "execute made one attempt, because it ran inside a transaction of the caller. Call it outside, or repeat the whole "
    "transaction. If the setting ATOMIC_REQUESTS opened the transaction, mark the view @transaction.non_atomic_requests"
)
"""The note on a conflict that `execute` could not retry."""


class Repository(Generic[A]):
    """Loads and saves the aggregates of one class, by key.

    The aggregates are in `store`, or in the database `using` (default: ES_DJANGO["DATABASE"]). Events with outbox
    messages or inline projections must be stored in ES_DJANGO["DATABASE"]. Saving them to another database raises
    `ImproperlyConfigured`.

    Raise `TypeError` unless `aggregate` is a subclass of `Aggregate`. Raise `DefinitionError` if the aggregate has
    snapshots and its state has a type that JSON cannot hold.
    """

    def __init__(self, aggregate: type[A], *, store: EventStore | None = None, using: str | None = None) -> None:
        if not isinstance(aggregate, type) or not issubclass(aggregate, Aggregate):
            raise TypeError(f"a Repository needs a subclass of Aggregate, got {aggregate!r}")
        self._aggregate = aggregate
        self._given_store = store
        self._using = using
        self._codec = SnapshotCodec(aggregate) if aggregate.snapshot_every else None

    @property
    def store(self) -> EventStore:
        return self._given_store or store_for(self._using)

    def get(self, key: str, *, version: int | None = None) -> A:
        """Load the aggregate as it is now, or as it was at `version`.

        Raises:
        - `AggregateNotFound` if the aggregate has no events, or fewer than `version`,
        - a `ReplayError` if a stored event cannot be read,
        - `ValueError` unless `version` is an integer of at least 0.
        """
        aggregate = self._aggregate(key)
        if version is not None:
            require_position(version=version)
        if version == 0:
            raise AggregateNotFound(aggregate.stream, version)
        self._load(aggregate, version)
        if aggregate.version == 0 or (version is not None and aggregate.version < version):
            raise AggregateNotFound(aggregate.stream, version)
        return aggregate

    def get_many(self, keys: Iterable[str]) -> dict[str, A]:
        """Load the aggregates of these keys, 500 in a query. The result has no entry for a key without events.

        Raise a `ReplayError` if a stored event cannot be read.
        """
        require_many("keys", keys, str)
        wanted = list(dict.fromkeys(self._stream(key).key for key in keys))
        loaded = self.store.load_many(
            self._aggregate.category, wanted, schema=self._codec.schema if self._codec else None
        )
        found = {}
        for key in wanted:
            if key in loaded:
                aggregate = self._aggregate(key)
                found[key] = aggregate if self._restore(aggregate, loaded[key]) else self.get(key)
        return found

    def exists(self, key: str) -> bool:
        """Return whether the aggregate has events."""
        return self.store.version(self._stream(key)) > 0

    def history(self, key: str) -> Iterator[RecordedEvent]:
        """Yield the aggregate's events, oldest first."""
        return self.store.read_stream(self._stream(key))

    def save(self, aggregate: A) -> None:
        """Append the aggregate's pending events, in the caller's transaction if there is one.

        Without pending events, write nothing. Raise `ConcurrencyError` if the stream changed since the aggregate was
        loaded, and its kind `AggregateExists` if the aggregate is new but the stream has events. In this case nothing
        is stored, and the events stay pending.

        Saving again after a lost reply stores nothing twice. Inside the caller's transaction, a save of events that are
        already stored raises `AlreadyAppended`: an earlier run of the transaction was committed. Let the error end the
        transaction, so that its other writes are not done twice.

        After a rollback of the transaction, or of an `atomic` block in it, the events are pending again, so the same
        object can be saved again. A rollback to a savepoint that was made without `atomic` is not noticed.
        """
        self.save_all([aggregate])

    def save_all(self, aggregates: Iterable[A]) -> None:
        """Save several aggregates, all or none.

        Raise the errors of `save`. Raise `DuplicateStream` before any write if two aggregates have the same stream.
        """
        require_many("aggregates", aggregates, Aggregate)
        self._save_all(list(aggregates))

    def _save_all(self, aggregates: Sequence[A]) -> list[RecordedEvent]:
        for aggregate in aggregates:
            if not isinstance(aggregate, self._aggregate):
                raise TypeError(
                    f"{aggregate!r} is not of class {self._aggregate.__name__}: save it with a repository of its class"
                )
        store = self.store
        writes = [(each, each.committed_version, self._stream_write(each)) for each in aggregates]
        # An unchanged aggregate claims no version, so a conflict on its stream does not matter.
        recorded = store.append_all([write for *_, write in writes if write.events])
        for aggregate, committed, write in writes:
            if write.events:
                # Events that were recorded during the append stay pending.
                aggregate._mark_saved(committed + len(write.events), store.commit_tracker())
        return recorded

    def execute(
        self, key: str, decide: Callable[[A], Any], *, attempts: int = 5, command_id: str | UUID | None = None
    ) -> A:
        """Load the aggregate, call `decide` to record events, and save them. Repeat this after a conflict.

        1. Load, as `get` does. If the events of `command_id` are already stored, and `decide` records the same events
           on the state before them, return the aggregate.
        2. Call `decide`. It may run several times, so it must have no effects other than recording events.
        3. Save, as `save` does, and return the aggregate.
        4. After a conflict, pause and go to step 1. The pauses are random and grow. Raise the conflict of the last of
           `attempts` attempts.

        A conflict is a `ConcurrencyError`, or the `StorageError` of a serialization failure or a deadlock. Inside a
        transaction of the caller there is one attempt, because only the owner of the transaction can repeat it. A view
        has such a transaction with ATOMIC_REQUESTS, unless it is marked `@transaction.non_atomic_requests`.

        A command with a `command_id` takes effect once. If the command has run before, or runs elsewhere at the same
        time, the returned aggregate has the events that were stored. `decide` must record the same events each time,
        so choose times and random values before the call. Other events under the same id raise `DuplicateEvent`. Inside
        the caller's transaction a repeated command raises `AlreadyAppended`, because the caller's other writes would be
        done twice.

        Raises, before anything is saved:
        - `ValueError` unless `attempts` is an integer of at least 1, and if `command_id` is blank,
        - `TypeError` if `decide` is async.
        """
        command = Command(decide, command_id)
        require_count("attempts", attempts, ValueError)
        last = 1 if self.store.in_transaction else attempts
        for attempt in range(1, last + 1):
            aggregate = self.get(key)
            if command_id is not None and self._is_repeated(aggregate, command):
                return aggregate
            command.decide(aggregate)
            try:
                self._save_all([aggregate])
            except (ConcurrencyError, StorageError) as error:
                if is_conflict(error) and last < attempts:
                    error.add_note(_ONE_ATTEMPT)
                if attempt == last or not is_conflict(error):
                    raise
                time.sleep(random.uniform(0, min(_MAX_PAUSE, _FIRST_PAUSE * 2**attempt)))  # noqa: S311
            else:
                return aggregate
        raise AssertionError("unreachable")

    def _is_repeated(self, aggregate: A, command: Command[A]) -> bool:
        """Return whether the command has run before. Raise `DuplicateEvent` if it records other events now."""
        found = self.store._find_events([command.event_id(aggregate.stream)])
        if not found:
            return False
        _, version, _ = found[0]
        before = self._aggregate(aggregate.key)
        self._load(before, version - 1)
        command.decide(before)
        decided = len(before._unsaved())
        following = command.event_id(aggregate.stream, decided + 1)
        if self.store.contains(following):
            raise DuplicateEvent([following])
        self._save_all([before])
        return True

    @contextmanager
    def lock(self, key: str, *, timeout: float | None = None) -> Iterator[A]:
        """Lock the aggregate for this block, load it, and save it when the block ends.

        Callers that lock the same aggregate get the lock one at a time, in order of arrival. The block is a
        transaction, and the lock lasts until the outermost transaction ends. If the block raises an error, nothing is
        saved. A writer that does not lock does not wait for the lock. If it saves before this block does, this block
        raises `ConcurrencyError`.

        Raise the errors of `get` and `save`. Raise `LockTimeout` after `timeout` seconds (None: wait without limit),
        and `ValueError` unless `timeout` is a number of seconds.

        On SQLite, all writers of all processes wait for each other, whatever stream they lock. Each writer waits as
        long as the `timeout` of its connection. If the database stays locked, raise `LockTimeout`, or a retryable
        `StorageError` if `timeout` is None.

        There is no asynchronous twin, because Django's transactions are bound to a thread. Use `aexecute`, or put the
        block into a plain function and call it with `sync_to_async`.
        """
        if timeout is not None:
            require_seconds("timeout", timeout)
        with self.store.lock(self._stream(key), timeout):
            aggregate = self.get(key)
            yield aggregate
            self.save(aggregate)

    async def aget(self, key: str, *, version: int | None = None) -> A:
        """The asynchronous twin of `get`."""
        return await sync_to_async(self.get)(key, version=version)

    async def aget_many(self, keys: Iterable[str]) -> dict[str, A]:
        """The asynchronous twin of `get_many`."""
        return await sync_to_async(self.get_many)(keys)

    async def aexists(self, key: str) -> bool:
        """The asynchronous twin of `exists`."""
        return await sync_to_async(self.exists)(key)

    async def ahistory(self, key: str) -> list[RecordedEvent]:
        """The asynchronous twin of `history`. Return all events in one list."""
        return await sync_to_async(lambda: list(self.history(key)))()

    async def asave(self, aggregate: A) -> None:
        """The asynchronous twin of `save`."""
        await sync_to_async(self.save)(aggregate)

    async def asave_all(self, aggregates: Iterable[A]) -> None:
        """The asynchronous twin of `save_all`."""
        await sync_to_async(self.save_all)(aggregates)

    async def aexecute(
        self, key: str, decide: Callable[[A], Any], *, attempts: int = 5, command_id: str | UUID | None = None
    ) -> A:
        """The asynchronous twin of `execute`. `decide` must be a plain function."""
        return await sync_to_async(self.execute)(key, decide, attempts=attempts, command_id=command_id)

    def _load(self, aggregate: A, version: int | None) -> None:
        if self._codec is None or version is not None:
            aggregate._replay(self.store.load(aggregate.stream, limit=version).tail)
        elif not self._restore(aggregate, self.store.load(aggregate.stream, schema=self._codec.schema)):
            aggregate._replay(self.store.load(aggregate.stream).tail)

    def _restore(self, aggregate: A, loaded: Loaded) -> bool:
        """Restore the snapshot and replay the events after it. Return False if the snapshot does not decode."""
        if loaded.snapshot is not None and self._codec is not None:
            version, encoded = loaded.snapshot
            state = self._codec.decode(encoded)
            if state is None:
                return False
            aggregate._restore(version, state)
        aggregate._replay(loaded.tail)
        return True

    def _stream_write(self, aggregate: A) -> StreamWrite:
        """Return the pending events, with a snapshot if the version reaches a multiple of `snapshot_every`."""
        committed, every = aggregate.committed_version, aggregate.snapshot_every
        snapshot = None
        if self._codec is not None and every is not None and aggregate.version // every > committed // every:
            snapshot = self._snapshot(aggregate, committed, self._codec)
        return StreamWrite(aggregate.stream, aggregate._unsaved(), committed, snapshot)

    def _snapshot(self, aggregate: A, committed: int, codec: SnapshotCodec) -> Snapshot | None:
        """Return the snapshot to save, or None if the state cannot have a snapshot.

        A snapshot must not store changes that were made without an event. So this method replays the events from the
        previous snapshot, and compares the states. A replay of 100 events takes 2 ms, about 1 % of the time of their
        appends.
        """
        if type(aggregate) is not self._aggregate:
            return None
        state = aggregate._state()
        encoded = codec.encode(state)
        if encoded is None:
            return None
        replayed = self._replayed(aggregate, committed)
        if replayed is None:
            return None
        if others := changed(replayed._state(), state):
            logger.warning(
                "%r: %s changed without an event, so the next load loses the change: change the state only in @applies "
                "methods (the snapshot stores the state that the events give)",
                aggregate,
                ", ".join(sorted(others)),
                extra={"category": aggregate.category, "key": aggregate.key, "version": aggregate.version},
            )
            encoded = codec.encode(replayed._state())
        return None if encoded is None else Snapshot(codec.schema, encoded)

    def _replayed(self, aggregate: A, committed: int) -> A | None:
        """Return a new aggregate with the stored and pending events, or None if the stream changed concurrently."""
        replayed = self._aggregate(aggregate.key)
        if committed > 0:
            try:
                self._load(replayed, None)
            except ReplayError:
                # The append will raise a conflict if another writer stored the unreadable event.
                return None
        if replayed.version != committed:
            return None
        pending = enumerate(aggregate._unsaved(), start=committed + 1)
        replayed._replay((version, [each.decoded()]) for version, each in pending)
        return replayed

    def _stream(self, key: str) -> StreamId:
        return self._aggregate._stream_of(key)
