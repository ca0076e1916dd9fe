"""Loads aggregates from their streams and saves what they recorded."""

import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import isawaitable, iscoroutine, iscoroutinefunction
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid5

from asgiref.sync import sync_to_async

from es_django.core.aggregates import Aggregate
from es_django.core.equality import changed
from es_django.core.events import RecordedEvent
from es_django.core.replay_errors import ReplayError
from es_django.core.streams import StreamId
from es_django.core.validation import is_position, require_many, require_position, require_seconds
from es_django.store.backends import store_for
from es_django.store.base import EventStore
from es_django.store.error_translation import is_conflict
from es_django.store.errors import AggregateNotFound, ConcurrencyError, DuplicateEvent, StorageError
from es_django.store.reads import Loaded
from es_django.store.snapshots import SnapshotCodec
from es_django.store.writes import Snapshot, StreamWrite

logger: logging.Logger = logging.getLogger("es_django.repository")

A = TypeVar("A", bound=Aggregate)

_COMMANDS = UUID("6f0f3f5e-3a5b-5d0c-9a59-1d8ad1f5a3c2")
_LONGEST_PAUSE = 1.0
_FIRST_PAUSE = 0.01


class Repository(Generic[A]):
    """The aggregates of one class, by key.

    They live in the database `using` (ES_DJANGO["DATABASE"] where it is None), or in `store`. Messages and inline
    projections belong to ES_DJANGO["DATABASE"]: saving events that have any in another one raises
    `ImproperlyConfigured`. Raises `TypeError` for what is no aggregate class.
    """

    def __init__(self, aggregate: type[A], *, store: EventStore | None = None, using: str | None = None) -> None:
        if not isinstance(aggregate, type) or not issubclass(aggregate, Aggregate):
            raise TypeError(f"a Repository is made of a subclass of Aggregate, not of {aggregate!r}")
        self._aggregate = aggregate
        self._given_store = store
        self._using = using
        self._codec = SnapshotCodec(aggregate) if aggregate.snapshot_every else None

    @property
    def store(self) -> EventStore:
        return self._given_store or store_for(self._using)

    def get(self, key: str, *, version: int | None = None) -> A:
        """The aggregate as it is now, or as it was at `version`.

        Raises `AggregateNotFound` if it has no events (that far), the kind of `ReplayError` that tells why a stored
        event cannot be read, and `ValueError` for a `version` that is no number from 0 on.
        """
        aggregate = self._aggregate(key)
        require_position(version=1 if version is None else version)
        if version == 0:
            raise AggregateNotFound(aggregate.stream, version)
        self._fold(aggregate, version)
        if aggregate.version == 0 or (version is not None and aggregate.version < version):
            raise AggregateNotFound(aggregate.stream, version)
        return aggregate

    def get_many(self, keys: Iterable[str]) -> dict[str, A]:
        """The aggregates of these keys, read in one query; those without events are absent. Raises as `get`."""
        if isinstance(keys, str):
            raise TypeError(f"keys are several, as in [{keys!r}], not one text")
        wanted = list(dict.fromkeys(self._stream(key).key for key in keys))
        loaded = self.store.load_many(
            self._aggregate.category, wanted, schema=self._codec.schema if self._codec else None
        )
        found = {}
        for key in wanted:
            if key in loaded:
                aggregate = self._aggregate(key)
                found[key] = aggregate if self._fold_loaded(aggregate, loaded[key]) else self.get(key)
        return found

    def exists(self, key: str) -> bool:
        """Whether the aggregate has any events."""
        return self.store.version(self._stream(key)) > 0

    def history(self, key: str) -> Iterator[RecordedEvent]:
        """The aggregate's events, oldest first."""
        return self.store.read_stream(self._stream(key))

    def save(self, aggregate: A) -> None:
        """Appends the aggregate's pending events, in the caller's transaction if there is one.

        Raises `ConcurrencyError` if the stream has moved on since the aggregate was loaded; nothing is stored then
        and its events stay pending. They are pending again after a rollback too, of the whole transaction or of an
        `atomic` block in it, so the same object can be saved again. (A savepoint that was made by hand is not noticed.)
        Without pending events nothing happens.
        """
        self.save_all([aggregate])

    def save_all(self, aggregates: Iterable[A]) -> None:
        """Saves several aggregates, all or none. Raises as `save`, and `DuplicateStream` before any write if two of
        them are of one stream."""
        require_many("aggregates", aggregates, Aggregate)
        self._save_all(list(aggregates))

    def _save_all(self, aggregates: Sequence[A]) -> list[RecordedEvent]:
        for aggregate in aggregates:
            if not isinstance(aggregate, self._aggregate):
                raise TypeError(f"{aggregate!r} is no {self._aggregate.__name__}: save it with a repository of its own")
        store = self.store
        writes = [(each, each.committed_version, self._write(each)) for each in aggregates]
        recorded = store.append_all([write for *_, write in writes])
        for aggregate, committed, write in writes:
            if write.events:
                # Not the pending events of now: more may have been recorded meanwhile.
                aggregate._mark_saved(committed + len(write.events), store.commit_tracker())
        return recorded

    def execute(
        self, key: str, decide: Callable[[A], Any], *, attempts: int = 5, command_id: str | UUID | None = None
    ) -> A:
        """Loads the aggregate, lets `decide` change it, saves it and returns it.

        After a conflict it starts again, at most `attempts` times in all, with growing random pauses, and then raises
        the last `ConcurrencyError`, or the `StorageError` of a serialization failure or a deadlock, which are conflicts
        too. Inside a transaction it does not try again: only the owner of the transaction can.
        `decide` may run several times, so it must do nothing but decide. With a `command_id` it takes effect once: if
        the command's events are stored already, nothing happens, and the aggregate comes back as it is now.
        Raises `ValueError` for `attempts` below 1 and a `command_id` that is blank, and `TypeError` if `decide` is or
        returns something to be awaited; nothing is saved then.
        """
        if iscoroutinefunction(decide):
            raise TypeError(_ASYNC_DECISION)
        if not is_position(attempts) or attempts < 1:
            raise ValueError(f"attempts is a number from 1 on, not {attempts!r}")
        if isinstance(command_id, str) and not command_id.strip():
            raise ValueError("a command_id is not blank: all commands without one of their own would be the same")
        last = 1 if self.store.in_transaction else attempts
        for attempt in range(1, last + 1):
            aggregate = self.get(key)
            if command_id is not None and self.store.contains(_event_id(aggregate.stream, command_id, 1)):
                return aggregate
            _require_plain_result(decide(aggregate))
            if command_id is not None:
                aggregate._identify_pending(partial(_event_id, aggregate.stream, command_id))
            decided = aggregate.pending_events
            try:
                stored = [recorded.event for recorded in self._save_all([aggregate])]
            except (ConcurrencyError, StorageError) as error:
                if attempt == last or not is_conflict(error):
                    raise
                time.sleep(random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)))  # noqa: S311
            except DuplicateEvent as error:
                # As below, and it has decided on fewer events.
                if command_id is None or _event_id(aggregate.stream, command_id, 1) not in error.event_ids:
                    raise
                return self.get(key)
            else:
                # Another execution of this command may have come first, and decided otherwise.
                return aggregate if stored == decided else self.get(key)
        raise AssertionError("unreachable")

    @contextmanager
    def lock(self, key: str, *, timeout: float | None = None) -> Iterator[A]:
        """The aggregate, for this block alone among all that lock it, in order of arrival; saved when the block ends.

        The block is a transaction, and the lock lasts until the outermost one ends. Raises `LockTimeout` after
        `timeout` seconds of waiting (None waits for ever), `ValueError` for a time that is none, and as `get` and
        `save`. An error in the block saves nothing. Writers that do not lock do not wait; against them the version
        decides. On SQLite all writers of all processes wait for each other, each for as long as the connection's own
        `timeout` lets it: the holder of another stream counts in the wait, and a database that stays locked is a
        `LockTimeout` too, or a retryable `StorageError` where no `timeout` was given.

        There is no asynchronous twin, since Django's transactions are bound to a thread: use `aexecute`, or call a
        plain function that holds the lock by `sync_to_async`.
        """
        if timeout is not None:
            require_seconds("timeout", timeout)
        with self.store.lock(self._stream(key), timeout):
            aggregate = self.get(key)
            yield aggregate
            self.save(aggregate)

    async def aget(self, key: str, *, version: int | None = None) -> A:
        """As `get`."""
        return await sync_to_async(self.get)(key, version=version)

    async def aget_many(self, keys: Iterable[str]) -> dict[str, A]:
        """As `get_many`."""
        return await sync_to_async(self.get_many)(keys)

    async def aexists(self, key: str) -> bool:
        """As `exists`."""
        return await sync_to_async(self.exists)(key)

    async def ahistory(self, key: str) -> list[RecordedEvent]:
        """As `history`, all at once."""
        return await sync_to_async(lambda: list(self.history(key)))()

    async def asave(self, aggregate: A) -> None:
        """As `save`."""
        await sync_to_async(self.save)(aggregate)

    async def asave_all(self, aggregates: Iterable[A]) -> None:
        """As `save_all`."""
        await sync_to_async(self.save_all)(aggregates)

    async def aexecute(
        self, key: str, decide: Callable[[A], Any], *, attempts: int = 5, command_id: str | UUID | None = None
    ) -> A:
        """As `execute`; `decide` is a plain function."""
        return await sync_to_async(self.execute)(key, decide, attempts=attempts, command_id=command_id)

    def _fold(self, aggregate: A, version: int | None) -> None:
        if self._codec is None or version is not None:
            aggregate._replay(self.store.load(aggregate.stream, limit=version).tail)
        elif not self._fold_loaded(aggregate, self.store.load(aggregate.stream, schema=self._codec.schema)):
            aggregate._replay(self.store.load(aggregate.stream).tail)

    def _fold_loaded(self, aggregate: A, loaded: Loaded) -> bool:
        """Folds what was loaded, unless its snapshot does not decode."""
        if loaded.snapshot is not None and self._codec is not None:
            version, encoded = loaded.snapshot
            state = self._codec.decode(encoded)
            if state is None:
                return False
            aggregate._restore(version, state)
        aggregate._replay(loaded.tail)
        return True

    def _write(self, aggregate: A) -> StreamWrite:
        committed, every = aggregate.committed_version, aggregate.snapshot_every
        snapshot = None
        if self._codec is not None and every is not None and aggregate.version // every > committed // every:
            snapshot = self._snapshot(aggregate, committed, self._codec)
        return StreamWrite(aggregate.stream, aggregate._unsaved(), committed, snapshot)

    def _snapshot(self, aggregate: A, committed: int, codec: SnapshotCodec) -> Snapshot | None:
        """The state to be cached: the one that the events give.

        State that was changed without an event must not become durable, so the events are replayed from the snapshot
        before. That takes 2 ms for 100 events, about 1 % of their appends.
        """
        if type(aggregate) is not self._aggregate:
            return None
        state = aggregate._state()
        encoded = codec.encode(state)
        if encoded is None:
            return None
        anew = self._folded_anew(aggregate, committed)
        if anew is None:
            return None
        if others := changed(anew._state(), state):
            logger.warning(
                "%r: %s changed without an event; the snapshot is that of its events",
                aggregate,
                ", ".join(sorted(others)),
                extra={"category": aggregate.category, "key": aggregate.key, "version": aggregate.version},
            )
            encoded = codec.encode(anew._state())
        return None if encoded is None else Snapshot(codec.schema, encoded)

    def _folded_anew(self, aggregate: A, committed: int) -> A | None:
        """The aggregate as the stored and the pending events make it; None if others have appended meanwhile."""
        anew = self._aggregate(aggregate.key)
        if committed > 0:
            try:
                self._fold(anew, None)
            except ReplayError:
                return None
        if anew.version != committed:
            return None
        anew._replay((version, [each.decoded()]) for version, each in enumerate(aggregate._unsaved(), committed + 1))
        return anew

    def _stream(self, key: str) -> StreamId:
        return self._aggregate._stream_of(key)


_ASYNC_DECISION = "decide is a plain function, not an async one: it must do nothing but decide"


def _require_plain_result(decided: object) -> None:
    if iscoroutine(decided):
        decided.close()
    if isawaitable(decided):
        raise TypeError(_ASYNC_DECISION)


def _event_id(stream: StreamId, command_id: str | UUID, number: int) -> UUID:
    return uuid5(_COMMANDS, json.dumps([stream.category, stream.key, str(command_id), number]))
