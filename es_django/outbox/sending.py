"""Write messages to the outbox: a single one with `send`, or one for each event of a class with `@publishes`."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, cast, overload
from uuid import UUID

import msgspec
from asgiref.sync import sync_to_async

from es_django import conf
from es_django.core.errors import PayloadError
from es_django.core.events import Event, StagedEvent
from es_django.core.metadata import METADATA_COLUMNS, current_metadata
from es_django.core.registry import registry
from es_django.core.streams import require_name
from es_django.messages.message import Message
from es_django.outbox import wakeup as _wakeup  # noqa: F401  # registers itself
from es_django.outbox.errors import UnknownDestination
from es_django.store.backends import store_for
from es_django.store.hooks import MessageSource, message_sources

EventT = TypeVar("EventT", bound=Event)
MadeT = TypeVar("MadeT", bound="Message | dict[str, Any] | None", covariant=True)
Publication = Callable[[StagedEvent], "Message | dict[str, Any] | None"]

METADATA_HEADERS = (*METADATA_COLUMNS, "traceparent")
"""The names of the metadata that become headers of a message."""

publications: list[tuple[type[Event], str, Publication]] = []
"""Each published event class, with its destination and the function that makes the message."""


def send(
    destination: str,
    *,
    type: str,
    data: object,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    delay: timedelta | None = None,
    message_id: UUID | None = None,
) -> UUID:
    """Store a message for `destination` in the caller's transaction. Return its id.

    After the commit, and not before `delay` has passed, the message is published at least once. Messages with the same
    destination and `key` are published in order.

    Raises:
        UnknownDestination: ES_DJANGO["DESTINATIONS"] does not have `destination`.
        PayloadError: `data` or `headers` cannot be stored.
        ValueError, TypeError: `type`, `key` or `delay` is invalid.
        DuplicateMessage: a message with `message_id` is already stored.
        StorageError: the database failed.
    """
    message = Message(type=type, data=data, key=key, headers=headers or {}, delay=delay)
    if message_id is not None:
        message = msgspec.structs.replace(message, message_id=message_id)
    message = _addressed(message, destination)
    store_for().send(message)
    return message.message_id


async def asend(
    destination: str,
    *,
    type: str,
    data: object,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    delay: timedelta | None = None,
    message_id: UUID | None = None,
) -> UUID:
    """Store a message as `send` does, from asynchronous code."""
    sending = sync_to_async(send)
    return await sending(
        destination, type=type, data=data, key=key, headers=headers, delay=delay, message_id=message_id
    )


@overload
def publishes(
    event_class: type[EventT], /, *, destination: str
) -> Callable[[Callable[[StagedEvent[EventT]], MadeT]], Callable[[StagedEvent[EventT]], MadeT]]: ...
@overload
def publishes(
    *event_classes: type[Event], destination: str
) -> Callable[[Callable[[StagedEvent[Any]], MadeT]], Callable[[StagedEvent[Any]], MadeT]]: ...
def publishes(
    *event_classes: type[Event], destination: str
) -> Callable[[Callable[[StagedEvent[Any]], MadeT]], Callable[[StagedEvent[Any]], MadeT]]:
    """Register a function that makes a message from each event of these classes. Both commit together.

    The function receives the `StagedEvent`. It returns the data of the message, or None for no message. By default, the
    type of the message is the stored name of the event, and its key is the key of the stream. So the messages of one
    stream are published in order. To set other fields, return a `Message`.
    """

    def register(function: Callable[[StagedEvent[Any]], MadeT]) -> Callable[[StagedEvent[Any]], MadeT]:
        publication = cast("Publication", function)
        for event_class in event_classes:
            source = _message_source(event_class, destination, publication)
            message_sources.setdefault(event_class, []).append(source)
            publications.append((event_class, destination, publication))
        return function

    return register


def _message_source(event_class: type[Event], destination: str, function: Publication) -> MessageSource:
    def source(staged: StagedEvent) -> Message | None:
        made = function(staged)
        if made is None:
            return None
        if not isinstance(made, Message):
            made = Message(type=registry.of(event_class).name, data=made, key=staged.stream.key)
        causes = {**staged.metadata, "causation_id": str(staged.event_id)}
        return _addressed(made, destination, causes)

    return source


def _addressed(message: Message, destination: str, causes: Mapping[str, str] | None = None) -> Message:
    destinations = conf.settings().destinations
    if destination not in destinations:
        raise UnknownDestination(destination, sorted(destinations))
    require_name("a message's type", message.type, ValueError)
    if message.key is not None:
        require_name("a message's key", message.key, ValueError)
    for name, header in message.headers.items():
        require_name("a name", name, partial(PayloadError, message.type, "headers"))
        if not isinstance(header, str):
            raise PayloadError(message.type, f"headers[{name!r}]", f"must be a string, got {header!r}")
    if not isinstance(message.delay, timedelta | None):
        raise TypeError(f"a message's delay must be a timedelta, got {message.delay!r}")
    if message.delay_seconds < 0:
        raise ValueError(f"a message's delay must not be negative, got {message.delay}")
    known = current_metadata() if causes is None else causes
    traced = {name: known[name] for name in METADATA_HEADERS if name in known}
    return msgspec.structs.replace(message, destination=destination, headers={**traced, **message.headers})
