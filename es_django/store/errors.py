"""Errors of the event store, of repositories and of leases."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from es_django.core.errors import EsDjangoError
from es_django.core.events import RecordedEvent
from es_django.core.streams import StreamId


@dataclass(eq=False)
class ConcurrencyError(EsDjangoError):
    """The stream is not at the version that the writer expected: reload the aggregate and decide again."""

    retryable = True
    outcome = "conflict"

    stream: StreamId
    expected: object
    actual: int

    def __str__(self) -> str:
        return (
            f"{self.stream} is at version {self.actual}, expected {self.expected}. "
            "The stream changed concurrently: reload the aggregate and retry"
        )


@dataclass(eq=False)
class AggregateExists(ConcurrencyError):
    """The writer wanted to create the stream, but the stream has events. A retry with the same key cannot succeed."""

    retryable = False

    def __str__(self) -> str:
        return f"{self.stream} already exists, at version {self.actual}: load it, or choose another key"


@dataclass(eq=False)
class AlreadyAppended(EsDjangoError):
    """An append inside the caller's transaction repeats an append that is stored. `events` are the stored events.

    So an earlier run of the caller's block has been committed. Let the error end the block: the rollback undoes the
    writes that the block did a second time. Then treat the work as done.
    """

    events: Sequence[RecordedEvent]

    def __str__(self) -> str:
        places = ", ".join(f"{event.stream} version {event.version}" for event in self.events[:3])
        return (
            f"the events are already stored ({places}), so an earlier run of this transaction was committed: "
            "let this error roll the transaction back, and treat the work as done"
        )


@dataclass(eq=False)
class StorageError(EsDjangoError):
    """The database failed during `operation`; the driver's error is the `__cause__`."""

    operation: str
    retryable: bool
    reason: str = ""

    def __str__(self) -> str:
        advice = "retryable" if self.retryable else "not retryable"
        return f"the database failed to {self.operation} ({advice}): {self.reason or self.__cause__}"


@dataclass(eq=False)
class LogOutOfOrder(StorageError):
    """Positions are not drawn in rising order, so readers of the log could skip events. `reason` names the remedy.

    A restored or replicated table whose sequence was not restored is the usual cause.
    """

    def __str__(self) -> str:
        return f"the log cannot be trusted to be in order: {self.reason}"


@dataclass(eq=False)
class StreamArchived(EsDjangoError):
    """The stream is archived, so it accepts no more events."""

    stream: StreamId

    def __str__(self) -> str:
        return f"{self.stream} is archived and accepts no more events"


@dataclass(eq=False)
class DuplicateStream(EsDjangoError):
    """One call writes to the same stream twice."""

    stream: StreamId

    def __str__(self) -> str:
        return f"{self.stream} appears twice in one call: merge its events into one write"


@dataclass(eq=False)
class DuplicateEvent(EsDjangoError):
    """Some event ids are already stored, by an append with another stream, order, type, schema version or payload."""

    event_ids: Sequence[UUID]

    def __str__(self) -> str:
        ids = ", ".join(map(str, self.event_ids))
        return f"event ids already stored, by an append that differs from this one: {ids}"


@dataclass(eq=False)
class DuplicateMessage(EsDjangoError):
    """Some message ids are already stored in the outbox."""

    message_ids: Sequence[UUID]

    def __str__(self) -> str:
        ids = ", ".join(map(str, self.message_ids))
        return f"message ids already stored in the outbox: {ids}"


@dataclass(eq=False)
class AppendInReplay(EsDjangoError):
    """A projection appended to a stream during a replay, which would repeat the append of its first run."""

    stream: StreamId

    def __str__(self) -> str:
        return (
            f"a projection appended to {self.stream} during a replay, which would repeat the append of its first run: "
            "append only if es_django.projections.is_replaying() is False"
        )


@dataclass(eq=False)
class LockTimeout(EsDjangoError):
    """Another writer still held the stream's lock after the caller had waited for `timeout` seconds."""

    retryable = True

    stream: StreamId
    timeout: float

    def __str__(self) -> str:
        return f"{self.stream} is still locked by another writer after {self.timeout:g} s"


@dataclass(eq=False)
class TooManyLocks(EsDjangoError):
    """One transaction locked more than `limit` streams, which would use up the lock table of the server."""

    stream: StreamId
    limit: int

    def __str__(self) -> str:
        return (
            f"the transaction holds the locks of {self.limit} streams, the most that one transaction may hold, so it "
            f"cannot lock {self.stream}: split the work into several transactions"
        )


@dataclass(eq=False)
class AggregateNotFound(EsDjangoError):
    """The aggregate's stream has no events, or none at `version`."""

    stream: StreamId
    version: int | None = None

    def __str__(self) -> str:
        missing = "events" if self.version is None else f"version {self.version}"
        return f"{self.stream} has no {missing}"


@dataclass(eq=False)
class LeaseTaken(EsDjangoError):
    """Another owner holds the lease."""

    retryable = True

    name: str

    def __str__(self) -> str:
        return f"lease {self.name!r} is held by another owner"


@dataclass(eq=False)
class LeaseLost(EsDjangoError):
    """The lease expired before it was renewed; another owner may hold it now."""

    retryable = True

    name: str

    def __str__(self) -> str:
        return f"lease {self.name!r} has expired: another owner may hold it now"
