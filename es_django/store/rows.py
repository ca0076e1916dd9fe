"""How rows become events."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from es_django.events import Event, RecordedEvent, StreamId
from es_django.registry import registry
from es_django.store.appends import Append

EventRow = tuple[int, int, str, int, str, str, str | None, str | None, Any, Any]
"""position, version, type, schema_version, data, metadata, correlation_id, causation_id, event_id, recorded_at"""

TailRow = tuple[int, str, int, str]
"""version, type, schema_version, data"""


def recorded_events(stream: StreamId, rows: Iterable[EventRow]) -> Iterator[RecordedEvent]:
    for (
        position,
        version,
        type,
        schema_version,
        data,
        metadata,
        correlation,
        causation,
        event_id,
        at,
    ) in rows:
        known = _metadata(metadata, correlation, causation)
        for event in registry.decode(stream, version, type, schema_version, data):
            yield RecordedEvent(
                stream, event, as_uuid(event_id), known, version, position, type, schema_version, as_utc(at)
            )


def decoded_tail(stream: StreamId, rows: Iterable[TailRow]) -> Iterator[tuple[int, Sequence[Event]]]:
    for version, type, schema_version, data in rows:
        yield version, registry.decode(stream, version, type, schema_version, data)


def recorded_from(append: Append, stored: Iterable[tuple[int, int, datetime]]) -> list[RecordedEvent]:
    """The appended events with the position, version and time that the database gave them."""
    recorded = []
    for pending, (position, version, at) in zip(append.events, stored, strict=True):
        event_type = registry.of(type(pending.event))
        recorded.append(
            RecordedEvent(
                append.stream,
                pending.event,
                pending.event_id,
                append.metadata,
                version,
                position,
                event_type.name,
                event_type.version,
                at,
            )
        )
    return recorded


def _metadata(encoded: str, correlation_id: str | None, causation_id: str | None) -> Mapping[str, str]:
    known: dict[str, str] = {} if encoded == "{}" else msgspec.json.decode(encoded)
    if correlation_id is not None:
        known["correlation_id"] = correlation_id
    if causation_id is not None:
        known["causation_id"] = causation_id
    return known


def as_uuid(stored: UUID | str) -> UUID:
    return stored if isinstance(stored, UUID) else UUID(stored)


def as_utc(stored: datetime) -> datetime:
    # SQLite's columns hold UTC without saying so.
    return stored if stored.tzinfo is not None else stored.replace(tzinfo=UTC)
