"""Messages for the tests of publishers, and questions about their outcomes."""

from collections.abc import Callable

from es_django import Message
from es_django.errors import PublishError
from es_django.outbox.publishers.serializers import Format


def news(count: int, type: str = "city.news") -> list[Message]:
    return [Message(type=type, data={"number": number}, destination="tests") for number in range(count)]


def retryable(outcome: PublishError | None) -> bool:
    return outcome is not None and outcome.retryable


def permanent(outcome: PublishError | None) -> bool:
    return outcome is not None and not outcome.retryable


def calling(function: Callable[[Message], None], format: Format) -> Format:
    """Return a format that calls a function before it encodes a message."""

    def encode(message: Message) -> bytes:
        function(message)
        return format.encode(message)

    return Format(format.content_type, encode)
