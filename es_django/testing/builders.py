"""Build events and messages as the code under test receives them, without a store."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from es_django.core.events import Event, PendingEvent, RecordedEvent, StagedEvent
from es_django.core.registry import registry
from es_django.core.serialization import encode_payload
from es_django.core.streams import StreamId
from es_django.messages.message import Message

EventT = TypeVar("EventT", bound=Event)

SOME_STREAM = StreamId("category", "key")


def staged(
    event: EventT, *, stream: StreamId = SOME_STREAM, metadata: Mapping[str, str] | None = None
) -> StagedEvent[EventT]:
    """Return the event as a function with `@publishes` receives it. Raise `PayloadError` if it cannot be stored."""
    return StagedEvent(stream, event, PendingEvent(event).event_id, dict(metadata or {}))


def recorded(
    event: EventT,
    *,
    stream: StreamId = SOME_STREAM,
    version: int = 1,
    position: int | None = None,
    metadata: Mapping[str, str] | None = None,
    recorded_at: datetime | None = None,
) -> RecordedEvent[EventT]:
    """Return the event as a projection receives it.

    The default of `position` is `version`, and the default of `recorded_at` is now. Raise `PayloadError` if the event
    cannot be stored.
    """
    before = staged(event, stream=stream, metadata=metadata)
    event_type = registry.of(type(event))
    return RecordedEvent(
        before.stream,
        before.event,
        before.event_id,
        before.metadata,
        version,
        version if position is None else position,
        event_type.name,
        event_type.version,
        datetime.now(UTC) if recorded_at is None else recorded_at,
    )


def message(type: str, data: object, *, key: str | None = None, headers: Mapping[str, str] | None = None) -> Message:
    """Return the message as a handler receives it, with its data encoded to JSON and decoded again.

    Raise `PayloadError` if the data cannot be encoded.
    """
    return Message(type=type, data=msgspec.json.decode(encode_payload(data, type)), key=key, headers=headers or {})
