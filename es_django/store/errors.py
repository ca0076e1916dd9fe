"""Errors of the event store and of repositories."""

from collections.abc import Sequence
from uuid import UUID

from es_django.core.errors import EsDjangoError
from es_django.core.streams import StreamId


class ConcurrencyError(EsDjangoError):
    """The stream is not at the version that the writer expected. Load it again and decide anew."""

    retryable = True

    def __init__(self, stream: StreamId, expected: object, actual: int) -> None:
        super().__init__(stream, expected, actual)
        self.stream = stream
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        return (
            f"{self.stream} is at version {self.actual}, expected was {self.expected}: "
            "somebody else has written; load it again and retry"
        )


class StorageError(EsDjangoError):
    """The database failed during `operation`; the driver's error is the `__cause__`."""

    def __init__(self, operation: str, retryable: bool, reason: str = "") -> None:
        super().__init__(operation, retryable, reason)
        self.operation = operation
        self.retryable = retryable
        self.reason = reason

    def __str__(self) -> str:
        advice = "trying again can help" if self.retryable else "trying again cannot help"
        return f"the database failed to {self.operation} ({advice}): {self.reason or self.__cause__}"


class StreamArchived(EsDjangoError):
    """The stream was archived; nothing can be appended to it."""

    def __init__(self, stream: StreamId) -> None:
        super().__init__(stream)
        self.stream = stream

    def __str__(self) -> str:
        return f"{self.stream} is archived: nothing can be appended to it"


class DuplicateStream(EsDjangoError):
    """One call would write the same stream twice."""

    def __init__(self, stream: StreamId) -> None:
        super().__init__(stream)
        self.stream = stream

    def __str__(self) -> str:
        return f"{self.stream} stands twice in one call: merge its events into one write"


class DuplicateEvent(EsDjangoError):
    """Events of these ids are stored already, elsewhere or not all together."""

    def __init__(self, event_ids: Sequence[UUID]) -> None:
        super().__init__(event_ids)
        self.event_ids = event_ids

    def __str__(self) -> str:
        ids = ", ".join(map(str, self.event_ids))
        return f"events of these ids are stored already, but not as this very append: {ids}"


class DuplicateMessage(EsDjangoError):
    """An outbox message of that id is stored already."""

    def __init__(self, message_ids: Sequence[UUID]) -> None:
        super().__init__(message_ids)
        self.message_ids = message_ids

    def __str__(self) -> str:
        ids = ", ".join(map(str, self.message_ids))
        return f"an outbox message of this id is stored already: {ids}"


class AppendInReplay(EsDjangoError):
    """A projection that is given events again, in a rebuild, has appended to a stream; it did so the first time."""

    def __init__(self, stream: StreamId) -> None:
        super().__init__(stream)
        self.stream = stream

    def __str__(self) -> str:
        return (
            f"stream {self.stream} was appended to by a projection that is given events again, and did so the first "
            "time: append only where es_django.projections.is_replaying() is False"
        )


class LockTimeout(EsDjangoError):
    """Somebody else held the stream's lock for as long as the caller was willing to wait."""

    retryable = True

    def __init__(self, stream: StreamId, timeout: float) -> None:
        super().__init__(stream, timeout)
        self.stream = stream
        self.timeout = timeout

    def __str__(self) -> str:
        return f"{self.stream} was locked by others for {self.timeout} seconds"


class AggregateNotFound(EsDjangoError):
    """The aggregate's stream has no events (yet: another transaction may be about to commit them)."""

    retryable = True

    def __init__(self, stream: StreamId, version: int | None = None) -> None:
        super().__init__(stream, version)
        self.stream = stream
        self.version = version

    def __str__(self) -> str:
        at = "" if self.version is None else f" up to version {self.version}"
        return f"{self.stream} has no events{at}"
