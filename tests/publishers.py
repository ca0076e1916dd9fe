"""A publisher for tests, which inspect its messages."""

from collections.abc import Callable, Sequence

from es_django import Message
from es_django.errors import PublishError
from es_django.outbox.publishers import Publisher


class Recorder(Publisher):
    """Record messages instead of publishing them. `fail` returns the error for a message, if any."""

    published: list[Message]
    calls: list[list[Message]]
    fail: Callable[[Message], PublishError | None]

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        self.calls.append(list(messages))
        outcomes = [type(self).fail(message) for message in messages]
        self.published.extend(message for message, error in zip(messages, outcomes, strict=True) if error is None)
        return outcomes

    @classmethod
    def reset(cls) -> None:
        cls.published = []
        cls.calls = []
        cls.fail = staticmethod(lambda message: None)


Recorder.reset()

never = PublishError("never", retryable=False)
