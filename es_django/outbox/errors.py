"""Errors of the outbox, its relay and its publishers."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from es_django.core.errors import EsDjangoError


@dataclass(eq=False)
class UnknownDestination(EsDjangoError):
    """A message names a destination that ES_DJANGO["DESTINATIONS"] does not configure."""

    destination: str
    known: Sequence[str]

    def __str__(self) -> str:
        known = ", ".join(sorted(self.known)) or "none"
        return f'no destination {self.destination!r} in ES_DJANGO["DESTINATIONS"] (configured: {known})'


@dataclass(eq=False)
class ClaimLost(EsDjangoError):
    """The worker no longer holds its claim: the lease expired, or another worker claimed the message."""

    message_id: UUID
    worker: str

    def __str__(self) -> str:
        return f"outbox message {self.message_id} is no longer claimed by {self.worker}"


class PublishError(EsDjangoError):
    """A message could not be published. Set `retryable` to False only if the message certainly has not arrived."""

    def __init__(self, reason: object, *, retryable: bool = True) -> None:
        self.reason: str = str(reason)
        super().__init__(self.reason)
        self.retryable = retryable


class DestinationUnreachable(PublishError):
    """The destination cannot be reached, so the message was not sent.

    No attempt is counted. All messages of the destination wait until the destination can be reached again.
    """

    def __init__(self, reason: object) -> None:
        super().__init__(reason)
