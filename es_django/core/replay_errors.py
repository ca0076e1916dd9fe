"""Errors of stored events that cannot be read."""

from dataclasses import dataclass, field

from es_django.core.errors import EsDjangoError
from es_django.core.streams import StreamId


@dataclass(eq=False)
class ReplayError(EsDjangoError):
    """A stored event cannot be read. es_django never guesses its content.

    `position` is the event's position in the log. It is None if the error comes from reading one stream.
    """

    stream: StreamId
    version: int
    type: str
    reason: str
    position: int | None = field(default=None, init=False)

    def __str__(self) -> str:
        return f"event {self.version} of {self.stream} ({self.type}) cannot be replayed: {self.reason}"


class UnknownEventType(ReplayError):
    """No event class is registered under the stored name."""


class UnsupportedEventVersion(ReplayError):
    """The payload was written by newer code than the running code."""


class MissingUpcaster(ReplayError):
    """An upcaster between the stored schema version and the current one is missing."""


class UpcastError(ReplayError):
    """An upcaster raised an error, which is the `__cause__`."""


class UndecodableEvent(ReplayError):
    """The stored payload does not match the event class."""


class UnappliedEvent(ReplayError):
    """The aggregate has no `@applies` method for the event."""
