"""Keeps what is published, for tests."""

from collections.abc import Callable, Sequence

from es_django.messages.message import Message
from es_django.outbox.errors import PublishError
from es_django.outbox.publishers import Publisher


def _never(message: Message) -> PublishError | None:
    return None


class MemoryPublisher(Publisher):
    """Keeps the messages that it published in `published`, and those of each call, failed ones too, in `calls`.

    `publisher_for(destination)` returns the one of a destination. Its attribute `fail` may be set to a function that
    gets each message and returns the error that it fails with, or None.
    """

    def __init__(self) -> None:
        self.published: list[Message] = []
        self.calls: list[list[Message]] = []
        self.fail: Callable[[Message], PublishError | None] = _never

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        self.calls.append(list(messages))
        outcomes = [self.fail(message) for message in messages]
        self.published += [message for message, error in zip(messages, outcomes, strict=True) if error is None]
        return outcomes

    def reset(self) -> None:
        """Forgets what was published, and fails no more."""
        self.published, self.calls, self.fail = [], [], _never
