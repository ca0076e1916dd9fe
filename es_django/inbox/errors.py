"""Errors of the inbox."""

from dataclasses import dataclass

from es_django.core.errors import EsDjangoError


@dataclass(eq=False)
class HandlerInterrupted(EsDjangoError):
    """A handler raised an exception that is not an `Exception`, such as the `SystemExit` of `sys.exit()`."""

    retryable = True

    reason: str

    def __str__(self) -> str:
        return f"the handler raised {self.reason}"


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
