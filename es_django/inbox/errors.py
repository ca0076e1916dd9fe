"""Errors of the inbox."""

from es_django.core.errors import EsDjangoError


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


class HandlerRejected(EsDjangoError):
    """Raised by a handler for a message that it will never accept; the message is kept as dead."""
