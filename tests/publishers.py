"""A publisher whose messages tests inspect."""

from collections.abc import Callable, Sequence

from es_django import Message
from es_django.errors import PublishError
from es_django.outbox.publishers import Publisher


class Recorder(Publisher):
    """Records messages instead of publishing them. `fail` decides which messages fail, and how."""

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
