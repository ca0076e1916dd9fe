"""Errors raised when a stored event cannot be read."""

from es_django.core.errors import EsDjangoError
from es_django.core.streams import StreamId


class ReplayError(EsDjangoError):
    """A stored event cannot be read as what it was; nothing is guessed.

    `position` is its place in the log, where it was met by a reader of the log.
    """

    position: int | None = None

    def __init__(self, stream: StreamId, version: int, type: str, reason: str) -> None:
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
