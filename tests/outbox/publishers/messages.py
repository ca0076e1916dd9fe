"""What the tests of publishers publish, and what they ask of the outcome."""

from collections.abc import Callable

from es_django import Message
from es_django.errors import PublishError
from es_django.outbox.publishers.serializers import Format


def news(count: int, type: str = "told.news") -> list[Message]:
    return [Message(type=type, data={"number": number}, destination="tests") for number in range(count)]


def retryable(outcome: PublishError | None) -> bool:
    return outcome is not None and outcome.retryable


def permanent(outcome: PublishError | None) -> bool:
    return outcome is not None and not outcome.retryable


def calling(function: Callable[[Message], None], format: Format) -> Format:
    """A format that calls a function before it writes a message."""

    def encode(message: Message) -> bytes:
        function(message)
        return format.encode(message)

    return Format(format.content_type, encode)
