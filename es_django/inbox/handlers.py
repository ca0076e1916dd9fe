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
"""In place of a consumer in the receipt of a message that none could take: no handler, or no message at all."""

_handlers: dict[str, dict[str, HandlerFunction]] = {}


def handles(message_type: str, *, consumer: str) -> Callable[[HandlerT], HandlerT]:
    """Registers a function for the messages of a type.

    For each message id it takes effect once per `consumer`: its database writes and the receipt commit together. What
    it does outside the database can happen again. If it raises, nothing of it is kept; an error that `is_retryable`
    is tried again, any other, `HandlerRejected` first of all, keeps the message as dead, to be replayed.

    Messages are published in order, but workers take them side by side, and one that fails is tried again after the
    next: a handler whose messages depend on each other compares their `stream_version`, or has one worker with one
    process on a queue of its own.
    """
    for field, value in (("message type", message_type), ("consumer", consumer)):
        require_name(f"@handles: the {field}", value, DefinitionError)
        if not value.isprintable():
            raise DefinitionError(f"@handles: the {field} must be printable, got {value!r}")
    if consumer == UNHANDLED:
        raise DefinitionError(f"@handles: {UNHANDLED!r} stands for messages without a consumer")

    def register(function: HandlerT) -> HandlerT:
        if iscoroutinefunction(function):
            raise DefinitionError(f"@handles: {function.__qualname__} must be a plain function, not an async one")
        known = _handlers.setdefault(message_type, {}).setdefault(consumer, function)
        if (known.__module__, known.__qualname__) != (function.__module__, function.__qualname__):
            raise DefinitionError(f"consumer {consumer!r} has two handlers for {message_type!r}")
        _handlers[message_type][consumer] = function
        return function

    return register


def handlers_of(message_type: str) -> dict[str, HandlerFunction]:
    """The handler of each consumer of a message type."""
    return dict(_handlers.get(message_type, {}))
