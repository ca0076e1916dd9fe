"""The functions that handle messages, by message type."""

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import TypeVar

from es_django.core.errors import DefinitionError
from es_django.core.streams import require_name
from es_django.messages.message import Message

HandlerFunction = Callable[[Message], None]
HandlerT = TypeVar("HandlerT", bound=HandlerFunction)

UNHANDLED = "es_django.unhandled"
"""The consumer in the receipt of a message without a handler, or of content that is not a message."""

_handlers: dict[str, dict[str, HandlerFunction]] = {}


def handles(message_type: str, *, consumer: str) -> Callable[[HandlerT], HandlerT]:
    """Register a function as the handler of `consumer` for the messages of a type.

    The handler takes effect once for each message id: its database writes and the receipt commit together. Effects
    outside the database can happen more than once. If the handler raises, its database writes are rolled back:

    - After an error that `is_retryable`, the message is handled again.
    - After any other error, such as `HandlerRejected`, the message is kept as dead. An operator can replay it.

    Messages are published in order, but may be handled in another order: workers run concurrently, and a message that
    failed is handled again after later messages. If a handler depends on the order, compare `stream_version` in it, or
    give it a queue of its own with a single worker process.

    Raise `DefinitionError` unless both names are valid, the function is synchronous, and the function is the
    consumer's only handler for this type.
    """
    for field, value in (("message type", message_type), ("consumer", consumer)):
        require_name(f"@handles: the {field}", value, DefinitionError)
        if not value.isprintable():
            raise DefinitionError(f"@handles: the {field} must be printable, got {value!r}")
    if consumer == UNHANDLED:
        raise DefinitionError(f"@handles: the consumer {UNHANDLED!r} is reserved for messages without a consumer")

    def register(function: HandlerT) -> HandlerT:
        if iscoroutinefunction(function):
            raise DefinitionError(f"@handles: {function.__qualname__} must be a plain function, not an async function")
        known = _handlers.setdefault(message_type, {}).setdefault(consumer, function)
        if (known.__module__, known.__qualname__) != (function.__module__, function.__qualname__):
            raise DefinitionError(f"consumer {consumer!r} has two handlers for {message_type!r}")
        _handlers[message_type][consumer] = function
        return function

    return register


def handlers_of(message_type: str) -> dict[str, HandlerFunction]:
    """Return the handler of each consumer of a message type."""
    return dict(_handlers.get(message_type, {}))
