"""Loads aggregates from their streams and saves what they recorded."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from es_django.aggregates import Aggregate
from es_django.errors import AggregateNotFound, ConcurrencyError
from es_django.events import RecordedEvent, StreamId
from es_django.snapshots import SnapshotCodec
from es_django.store import store_for
from es_django.store.base import EventStore, Snapshot, StreamWrite

A = TypeVar("A", bound=Aggregate)

_LONGEST_PAUSE = 1.0
_FIRST_PAUSE = 0.01


class Repository(Generic[A]):
    """The aggregates of one class, by key.

    They live in the database `using` (ES_DJANGO["DATABASE"] where it is None), or in `store`.
    """

    def __init__(self, aggregate: type[A], *, store: EventStore | None = None, using: str | None = None) -> None:
        self._aggregate = aggregate
        self._given_store = store
        self._using = using
        self._codec = SnapshotCodec(aggregate) if aggregate.snapshot_every else None

    @property
    def store(self) -> EventStore:
        return self._given_store or store_for(self._using)

    def get(self, key: str, *, version: int | None = None) -> A:
        """The aggregate as it is now, or as it was at `version`.

        Raises `AggregateNotFound` if it has no events (that far), and the kind of `ReplayError` that tells why a
        stored event cannot be read.
        """
        aggregate = self._aggregate(key)
        if version is not None and version < 1:
            raise AggregateNotFound(aggregate.stream, version)
        self._fold(aggregate, version)
        if aggregate.version == 0 or (version is not None and aggregate.version < version):
            raise AggregateNotFound(aggregate.stream, version)
        return aggregate

    def _fold(self, aggregate: A, version: int | None) -> None:
        if self._codec is not None and version is None:
            loaded = self.store.load(aggregate.stream, schema=self._codec.schema)
            if loaded.snapshot is None:
                return aggregate._replay(loaded.tail)
            taken_at, encoded = loaded.snapshot
            state = self._codec.decode(encoded)
            if state is not None:
                aggregate._restore(taken_at, state)
                return aggregate._replay(loaded.tail)
        return aggregate._replay(self.store.load(aggregate.stream, limit=version).tail)

    def exists(self, key: str) -> bool:
        """Whether the aggregate has any events."""
        return self.store.version(self._stream(key)) > 0

    def history(self, key: str) -> Iterator[RecordedEvent]:
        """The aggregate's events, oldest first."""
        return self.store.read_stream(self._stream(key))

    def save(self, aggregate: A) -> None:
        """Appends the aggregate's pending events, in the caller's transaction if there is one.

        Raises `ConcurrencyError` if the stream has moved on since the aggregate was loaded; nothing is stored then
        and its events stay pending. They are pending again after a rollback too, so the same object can be saved
        again. Without pending events nothing happens.
        """
        self.save_all([aggregate])

    def save_all(self, aggregates: list[A]) -> None:
        """Saves several aggregates, all or none. Raises as `save`, and `DuplicateStream` before any write if two of
        them are of one stream."""
        store = self.store
        store.append_all([self._write(each) for each in aggregates])
        for aggregate in aggregates:
            if aggregate._unsaved():
                aggregate._saved(store.outcome())

    def execute(self, key: str, decide: Callable[[A], Any], *, attempts: int = 5) -> A:
        """Loads the aggregate, lets `decide` change it, saves it and returns it.

        After a conflict it starts again, at most `attempts` times in all, with growing random pauses, and then raises
        the last `ConcurrencyError`. Inside a transaction it does not try again: only the owner of the transaction can.
        `decide` may run several times, so it must do nothing but decide.
        """
        if attempts < 1:
            raise ValueError(f"attempts is a number from 1 on, not {attempts}")
        last = 1 if self.store.in_transaction else attempts
        for attempt in range(1, last + 1):
            aggregate = self.get(key)
            decide(aggregate)
            try:
                self.save(aggregate)
            except ConcurrencyError:
                if attempt == last:
                    raise
                time.sleep(random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)))  # noqa: S311
            else:
                return aggregate
        raise AssertionError("unreachable")

    def _write(self, aggregate: A) -> StreamWrite:
        committed, every = aggregate.committed_version, aggregate.snapshot_every
        snapshot = None
        if self._codec is not None and every is not None and aggregate.version // every > committed // every:
            state = self._codec.encode(aggregate._state())
            snapshot = None if state is None else Snapshot(self._codec.schema, state)
        return StreamWrite(aggregate.stream, aggregate._unsaved(), committed, snapshot)

    def _stream(self, key: str) -> StreamId:
        return StreamId(self._aggregate.category, key)
