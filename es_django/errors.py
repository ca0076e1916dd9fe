"""Every error of this package, each with a truthful answer to one question: can trying again help?

An error keeps its facts in attributes and writes its sentence from them, so that it can be pickled and caught by fact
instead of by text.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured as ImproperlyConfigured

if TYPE_CHECKING:
    from es_django.events import StreamId


class EsDjangoError(Exception):
    """The base of all errors of this package; `retryable` says whether trying again can help."""

    retryable: bool = False


class ConcurrencyError(EsDjangoError):
    """The stream is not at the version that the writer expected. Load it again and decide anew."""

    retryable = True

    def __init__(self, stream: "StreamId", expected: object, actual: int) -> None:
        super().__init__(stream, expected, actual)
        self.stream = stream
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        return (
            f"{self.stream} is at version {self.actual}, expected was {self.expected}: "
            "somebody else has written; load it again and retry"
        )


class AggregateNotFound(EsDjangoError):
    """The aggregate's stream has no events (yet: another transaction may be about to commit them)."""

    retryable = True

    def __init__(self, stream: "StreamId", version: int | None = None) -> None:
        super().__init__(stream, version)
        self.stream = stream
        self.version = version

    def __str__(self) -> str:
        at = "" if self.version is None else f" up to version {self.version}"
        return f"{self.stream} has no events{at}"


class LockTimeout(EsDjangoError):
    """Somebody else held the stream's lock for as long as the caller was willing to wait."""

    retryable = True

    def __init__(self, stream: "StreamId", timeout: float) -> None:
        super().__init__(stream, timeout)
        self.stream = stream
        self.timeout = timeout

    def __str__(self) -> str:
        return f"{self.stream} was locked by others for {self.timeout} seconds"


class LeaseTaken(EsDjangoError):
    """Somebody else holds the lease."""

    retryable = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"the lease on {self.name!r} is somebody else's"


class LeaseLost(EsDjangoError):
    """The lease has run out, and may be somebody else's by now."""

    retryable = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"the lease on {self.name!r} has run out"


class StreamArchived(EsDjangoError):
    """The stream was archived; nothing can be appended to it."""

    def __init__(self, stream: "StreamId") -> None:
        super().__init__(stream)
        self.stream = stream

    def __str__(self) -> str:
        return f"{self.stream} is archived: nothing can be appended to it"


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


class InvalidStreamId(EsDjangoError):
    """A stream's category or key is not usable as one."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(field, value, reason)
        self.field = field
        self.value = value
        self.reason = reason

    def __str__(self) -> str:
        shown = repr(self.value)
        return f"a stream's {self.field} {self.reason}, got {shown if len(shown) <= 80 else shown[:77] + '...'}"


class DuplicateStream(EsDjangoError):
    """One call would write the same stream twice."""

    def __init__(self, stream: "StreamId") -> None:
        super().__init__(stream)
        self.stream = stream

    def __str__(self) -> str:
        return f"{self.stream} stands twice in one call: merge its events into one write"


class PayloadError(EsDjangoError):
    """A payload cannot be stored as JSON on both databases; `field` is the path of what stands in the way."""

    def __init__(self, owner: str, field: str, reason: str) -> None:
        super().__init__(owner, field, reason)
        self.owner = owner
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.owner}{'.' if self.field else ''}{self.field} {self.reason}"


class ReplayError(EsDjangoError):
    """A stored event cannot be read as what it was; nothing is guessed.

    `position` is its place in the log, where it was met by a reader of the log.
    """

    position: int | None = None

    def __init__(self, stream: "StreamId", version: int, type: str, reason: str) -> None:
        super().__init__(stream, version, type, reason)
        self.stream = stream
        self.version = version
        self.type = type
        self.reason = reason

    def __str__(self) -> str:
        return f"event {self.version} of {self.stream} ({self.type}) cannot be replayed: {self.reason}"


class UnknownEventType(ReplayError):
    """No event class of that name is registered."""


class UnsupportedEventVersion(ReplayError):
    """The payload was written by newer code than this."""


class MissingUpcaster(ReplayError):
    """A step on the way from the stored schema version to the current one is missing."""


class UpcastError(ReplayError):
    """An upcaster raised; its error is the `__cause__`."""


class UndecodableEvent(ReplayError):
    """The stored payload does not fit the event class."""


class UnappliedEvent(ReplayError):
    """The aggregate has no `@applies` method for the event."""


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


class UnknownDestination(EsDjangoError):
    """A message names a destination that ES_DJANGO["DESTINATIONS"] does not have."""

    def __init__(self, destination: str, known: Sequence[str]) -> None:
        super().__init__(destination, known)
        self.destination = destination
        self.known = known

    def __str__(self) -> str:
        known = ", ".join(sorted(self.known)) or "none"
        return f'no destination {self.destination!r} in ES_DJANGO["DESTINATIONS"] (configured: {known})'


class UnknownProjection(EsDjangoError):
    """No projection of that name is registered."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(name, known)
        self.name = name
        self.known = known

    def __str__(self) -> str:
        return f"no projection is named {self.name!r} (there is {', '.join(sorted(self.known)) or 'none'})"


class ProjectionTimeout(EsDjangoError):
    """A projection has not come to a position in the time that the caller was willing to wait."""

    retryable = True

    def __init__(self, name: str, position: int, timeout: float, state: str) -> None:
        super().__init__(name, position, timeout, state)
        self.name = name
        self.position = position
        self.timeout = timeout
        self.state = state

    def __str__(self) -> str:
        return f"projection {self.name!r} was not at position {self.position} in {self.timeout} s: it {self.state}"


class ProjectionStatusError(EsDjangoError):
    """What was asked for cannot be done to a projection as it stands."""

    def __init__(self, name: str, wanted: str, reason: str) -> None:
        super().__init__(name, wanted, reason)
        self.name = name
        self.wanted = wanted
        self.reason = reason

    def __str__(self) -> str:
        return f"projection {self.name!r} cannot be {self.wanted}: {self.reason}"


class PartitionsChanged(EsDjangoError):
    """A projection's checkpoints are those of another number of partitions than it has now."""

    def __init__(self, name: str, stored: int, wanted: int) -> None:
        super().__init__(name, stored, wanted)
        self.name = name
        self.stored = stored
        self.wanted = wanted

    def __str__(self) -> str:
        return (
            f"projection {self.name!r} has checkpoints for Meta.partitions = {self.stored}, not {self.wanted}: "
            f"set it back, or build the projection anew with manage.py es_rebuild {self.name}"
        )


class ModeChanged(EsDjangoError):
    """A projection is asynchronous now, and was moved by the appends before; what it has missed since is not known."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return (
            f"projection {self.name!r} was inline and is async now, and what it has missed since is not known: set "
            f"Meta.mode back to inline, migrate, pause it (manage.py es_project --pause {self.name}), change the mode "
            f"again, and rebuild it (manage.py es_rebuild {self.name})"
        )


class AppendInReplay(EsDjangoError):
    """A projection that is given events again, in a rebuild, has appended to a stream; it did so the first time."""

    def __init__(self, stream: "StreamId") -> None:
        super().__init__(stream)
        self.stream = stream

    def __str__(self) -> str:
        return (
            f"stream {self.stream} was appended to by a projection that is given events again, and did so the first "
            "time: append only where es_django.projections.is_replaying() is False"
        )


class ClaimLost(EsDjangoError):
    """A claim is no longer the worker's: its lease ran out, or somebody else has the message."""

    def __init__(self, message_id: UUID, worker: str) -> None:
        super().__init__(message_id, worker)
        self.message_id = message_id
        self.worker = worker

    def __str__(self) -> str:
        return f"outbox message {self.message_id} is no longer claimed by {self.worker}"


class PublishError(EsDjangoError):
    """A message could not be published; an outcome that is not known is retryable."""

    def __init__(self, reason: object, *, retryable: bool = True) -> None:
        self.reason = str(reason)
        super().__init__(self.reason)
        self.retryable = retryable

    def __reduce__(self) -> tuple[object, ...]:
        return _publish_error, (self.reason, self.retryable)

    def __str__(self) -> str:
        return self.reason


def _publish_error(reason: str, retryable: bool) -> PublishError:
    return PublishError(reason, retryable=retryable)


class DestinationUnreachable(PublishError):
    """A message could not even be handed over, since its destination cannot be reached, by no message at all.

    It does not count as an attempt: all messages wait until the destination is reached again.
    """

    def __init__(self, reason: object) -> None:
        super().__init__(reason)

    def __reduce__(self) -> tuple[object, ...]:
        return DestinationUnreachable, (self.reason,)


class HandlerInterrupted(EsDjangoError):
    """A handler raised what is meant to end more than itself, such as the `SystemExit` of `sys.exit()`."""

    retryable = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the handler raised {self.reason}"


class NotReplayable(EsDjangoError):
    """There is no dead message to be replayed, or nothing that could handle it; nothing has changed."""

    def __init__(self, consumer: str, message_id: str, reason: str) -> None:
        super().__init__(consumer, message_id, reason)
        self.consumer = consumer
        self.message_id = message_id
        self.reason = reason

    def __str__(self) -> str:
        return f"message {self.message_id} of consumer {self.consumer!r} cannot be replayed: {self.reason}"


class InvalidCloudEvent(EsDjangoError):
    """What should be a CloudEvent is none; `reason` is meant for its sender."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"not a CloudEvent 1.0: {self.reason}"


class HandlerRejected(EsDjangoError):
    """Raised by a handler for a message that it will never accept; the message is kept as dead."""


_RETRYABLE_SQLSTATE_CLASSES = ("08", "53")
_RETRYABLE_SQLSTATES = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03"})
_SQLITE_BUSY, _SQLITE_LOCKED = 5, 6
_TRANSIENT = (
    *("OperationalError", "InterfaceError"),  # PEP 249, and kombu
    *("ConnectionError", "TimeoutError", "gaierror", "URLError"),  # Python, redis, requests
    *("RecoverableConnectionError", "RecoverableChannelError"),  # amqp
    *("Timeout", "TransportError"),  # requests, httpx
    "SoftTimeLimitExceeded",  # celery
)
"""Names under which Python and its client libraries raise what is nobody's fault and may pass."""


def is_retryable(error: BaseException) -> bool:
    """Whether trying again can help, for any exception: this package's, Django's, a driver's or a broker client's.

    A database error is judged by its SQLSTATE or SQLite code, never by its text. Of everything else, lost or refused
    connections and time-outs are retryable, told by the names that they have in Python and in the clients of databases,
    brokers and HTTP.
    """
    if isinstance(error, EsDjangoError):
        return error.retryable
    driver_error = error.__cause__ if _is_a(error, "Error") and error.__cause__ is not None else error
    sqlstate: str | None = getattr(driver_error, "sqlstate", None)
    if sqlstate is not None:
        return sqlstate in _RETRYABLE_SQLSTATES or sqlstate.startswith(_RETRYABLE_SQLSTATE_CLASSES)
    sqlite_code: int | None = getattr(driver_error, "sqlite_errorcode", None)
    if sqlite_code is not None:
        return sqlite_code & 0xFF in (_SQLITE_BUSY, _SQLITE_LOCKED)
    return _is_a(driver_error, *_TRANSIENT)


def _is_a(error: BaseException, *names: str) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)
