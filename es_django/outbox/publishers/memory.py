"""A publisher for tests, which keeps the messages in memory."""

from collections.abc import Callable, Sequence

from es_django.messages.message import Message
from es_django.outbox.errors import PublishError
from es_django.outbox.publishers import Publisher


def _succeed(message: Message) -> PublishError | None:
    return None


class MemoryPublisher(Publisher):
    """Keeps the published messages in `published`, and the messages of each call in `calls`, even if they failed.

    Get the publisher of a destination with `publisher_for(destination)`. To make messages fail, set the publisher's
    attribute `fail` to a function that takes a message and returns an error or None.
    """

    def __init__(self) -> None:
        self.published: list[Message] = []
        self.calls: list[list[Message]] = []
        self.fail: Callable[[Message], PublishError | None] = _succeed

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        self.calls.append(list(messages))
        outcomes = [self.fail(message) for message in messages]
        self.published += [message for message, error in zip(messages, outcomes, strict=True) if error is None]
        return outcomes

    def reset(self) -> None:
        """Empty `published` and `calls`, and let all messages succeed again."""
        self.published, self.calls, self.fail = [], [], _succeed
