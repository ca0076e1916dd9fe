"""Errors of the inbox."""

from dataclasses import dataclass

from es_django.core.errors import EsDjangoError


@dataclass(eq=False)
class HandlerInterrupted(EsDjangoError):
    """A handler raised an exception that ends more than the handler, such as the `SystemExit` of `sys.exit()`."""

    retryable = True

    reason: str

    def __str__(self) -> str:
        return f"the handler raised {self.reason}"


@dataclass(eq=False)
class NotReplayable(EsDjangoError):
    """The message cannot be replayed: it is not dead, or nothing handles it. Nothing has changed."""

    consumer: str
    message_id: str
    reason: str

    def __str__(self) -> str:
        return f"message {self.message_id} of consumer {self.consumer!r} cannot be replayed: {self.reason}"


class HandlerRejected(EsDjangoError):
    """A handler raises this for a message that it will never accept. The message becomes dead without a retry."""
