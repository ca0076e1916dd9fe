"""Events and messages as the code under test gets them, made without a store."""

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
    """The event as a function with `@publishes` gets it. Raises `PayloadError` if it could not be stored."""
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
    """The event as a projection gets it: stored at `version`, at the same `position` of the log and just now where
    they are absent. Raises `PayloadError` if it could not be stored."""
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
    """The message as a handler gets it: its data have been through JSON. Raises `PayloadError` if they cannot be."""
    return Message(type=type, data=msgspec.json.decode(encode_payload(data, type)), key=key, headers=headers or {})
