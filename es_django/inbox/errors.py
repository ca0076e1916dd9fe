"""Errors of the inbox."""

from dataclasses import dataclass
from datetime import timedelta

from es_django.core.errors import EsDjangoError

LONGEST_PAUSE = 365 * 24 * 3600
"""The longest pause before a retry, in seconds."""


@dataclass(eq=False)
class HandlerInterrupted(EsDjangoError):
    """A handler raised an exception that is not an `Exception`, such as the `SystemExit` of `sys.exit()`."""

    retryable = True

    reason: str

    def __str__(self) -> str:
        return f"the handler raised {self.reason}"


@dataclass(eq=False)
class BatchTooLarge(EsDjangoError):
    """A batch has more events than the ingress takes in one request. None of them was handled."""

    events: int
    limit: int

    def __str__(self) -> str:
        return f"the batch has {self.events} events, more than MAX_EVENTS ({self.limit}): send it in smaller batches"


@dataclass(eq=False)
class NotReplayable(EsDjangoError):
    """The message cannot be replayed, because it is not dead or has no handler. Nothing was changed."""

    consumer: str
    message_id: str
    reason: str

    def __str__(self) -> str:
        return f"message {self.message_id} of consumer {self.consumer!r} cannot be replayed: {self.reason}"


class HandlerRejected(EsDjangoError):
    """Raise this in a handler to reject a message for good. The message becomes dead without a retry."""


class HandlerRetry(EsDjangoError):
    """Raise this in a handler to have the message handled again later.

    `after` is the time until then, in seconds or as a `timedelta`; by default, the handler's backoff. The attempt
    counts: after the last attempt the message is dead.

    Raise ValueError unless `after` is a number of 0 to 31,536,000 seconds (a year).
    """

    retryable = True

    def __init__(self, reason: str = "", *, after: float | timedelta | None = None) -> None:
        super().__init__(reason)
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if seconds is not None and not 0 <= seconds <= LONGEST_PAUSE:
            raise ValueError(f"HandlerRetry: after must be 0 to {LONGEST_PAUSE:,} seconds, got {after!r}")
        self.seconds: float | None = seconds
