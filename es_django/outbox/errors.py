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
    """The destination accepts no message now: it is down, full, not set up, or asks for a pause.

    No attempt is counted, and all messages of the destination wait. If another message of the call had another outcome,
    the error may concern its own message alone, and counts as an attempt. Set `is_certain` if the error is surely not
    about the message: then it is an outage, whatever the other outcomes are.

    `retry_after` is the pause in seconds for which the destination asked, if it did.
    """

    def __init__(self, reason: object, *, is_certain: bool = False, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.is_certain = is_certain
        self.retry_after = retry_after


class DestinationRefuses(PublishError):
    """The destination does not know the sender or the address, such as a webhook with status 401, 403 or 404.

    An attempt is counted. If all messages of a call, and at least `retry_policy.MANY`, have this outcome, the
    destination counts as unreachable: then no attempt is counted, and all messages wait.
    """
