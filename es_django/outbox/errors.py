"""Errors of the outbox, its relay and its publishers."""

from collections.abc import Sequence
from uuid import UUID

from es_django.core.errors import EsDjangoError


class UnknownDestination(EsDjangoError):
    """A message names a destination that ES_DJANGO["DESTINATIONS"] does not have."""

    def __init__(self, destination: str, known: Sequence[str]) -> None:
        super().__init__(destination, known)
        self.destination = destination
        self.known = known

    def __str__(self) -> str:
        known = ", ".join(sorted(self.known)) or "none"
        return f'no destination {self.destination!r} in ES_DJANGO["DESTINATIONS"] (configured: {known})'


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
        self.reason: str = str(reason)
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
