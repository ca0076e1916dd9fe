"""The functions that handle messages, by message type."""

from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction
from typing import TypeVar

import msgspec

from es_django.conf import Backoff
from es_django.core.errors import DefinitionError
from es_django.core.streams import require_name
from es_django.messages.message import Message

HandlerFunction = Callable[[Message], None]
HandlerT = TypeVar("HandlerT", bound=HandlerFunction)

UNHANDLED = "es_django.unhandled"
"""The consumer in the receipt of a message without a handler, or of content that is not a message."""


class Handler(msgspec.Struct, frozen=True):
    """A registered function, and when it is retried. None stands for the setting of the inbox."""

    function: HandlerFunction
    retry_on: tuple[type[BaseException], ...] = ()
    attempts: int | None = None
    backoff: Backoff | None = None

    def __call__(self, message: Message) -> None:
        self.function(message)


_handlers: dict[str, dict[str, Handler]] = {}


def handles(
    message_type: str,
    *,
    consumer: str,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = (),
    attempts: int | None = None,
    backoff: Mapping[str, float] | None = None,
) -> Callable[[HandlerT], HandlerT]:
    """Register a function as the handler of `consumer` for the messages of a type.

    The handler takes effect once for each message id: its database writes and the receipt commit together. Effects
    outside the database can happen more than once. If the handler raises, its database writes are rolled back:

    - After `HandlerRetry`, the message is handled again at the time that the handler asks for.
    - After an error that `is_retryable`, or is of a class in `retry_on` or in the setting RETRY_ON, the message is
      handled again after a pause.
    - After any other error, such as `HandlerRejected`, the message is kept as dead. An operator can replay it.

    `attempts` is the highest number of attempts, and `backoff` has the pauses between them, such as
    `{"base": 1, "factor": 2, "max": 3600}`. By default, both come from ES_DJANGO["INBOX"]. An attempt counts once its
    handler has begun, even if the worker is killed. After the last attempt the message is kept as dead.

    Messages are published in order, but may be handled in another order: workers run concurrently, and a message that
    failed is handled again after later messages. If a handler depends on the order, compare `stream_version` in it, or
    give it a queue of its own with a single worker process.

    Raise `DefinitionError` unless both names are valid, `retry_on`, `attempts` and `backoff` are as described, the
    function is synchronous, and the function is the consumer's only handler for this type.
    """
    for field, value in (("message type", message_type), ("consumer", consumer)):
        require_name(f"@handles: the {field}", value, DefinitionError)
        if not value.isprintable():
            raise DefinitionError(f"@handles: the {field} must be printable, got {value!r}")
    if consumer == UNHANDLED:
        raise DefinitionError(f"@handles: the consumer {UNHANDLED!r} is reserved for messages without a consumer")
    kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    for kind in kinds:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise DefinitionError(f"@handles: retry_on must be an exception class or a tuple of them, got {retry_on!r}")
    if attempts is not None and (not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1):
        raise DefinitionError(f"@handles: attempts must be an integer of at least 1, got {attempts!r}")
    try:
        pauses = None if backoff is None else msgspec.convert(backoff, type=Backoff)
    except msgspec.ValidationError as error:
        raise DefinitionError(f"@handles: backoff: {error}") from error

    def register(function: HandlerT) -> HandlerT:
        if iscoroutinefunction(function):
            raise DefinitionError(f"@handles: {function.__qualname__} must be a plain function, not an async function")
        handler = Handler(function, kinds, attempts, pauses)
        known = _handlers.setdefault(message_type, {}).setdefault(consumer, handler).function
        if (known.__module__, known.__qualname__) != (function.__module__, function.__qualname__):
            raise DefinitionError(f"consumer {consumer!r} has two handlers for {message_type!r}")
        _handlers[message_type][consumer] = handler
        return function

    return register


def handlers_of(message_type: str) -> dict[str, Handler]:
    """Return the handler of each consumer of a message type."""
    return dict(_handlers.get(message_type, {}))
