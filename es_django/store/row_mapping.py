"""Turn rows of the database into events."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from es_django.core.events import Event, RecordedEvent
from es_django.core.registry import registry
from es_django.core.streams import StreamId
from es_django.store.writes import Append

EventRow = tuple[int, int, str, int, str, str, str | None, str | None, Any, Any]
"""position, version, type, schema_version, data, metadata, correlation_id, causation_id, event_id, recorded_at"""

TailRow = tuple[int, str, int, str]
"""version, type, schema_version, data"""


def recorded_events(stream: StreamId, row: EventRow) -> list[RecordedEvent]:
    """Return the stored event, decoded by the current code: one event, or as many as its upcasters return."""
    position, version, type, schema_version, data, metadata, correlation, causation, stored_id, at = row
    event_id, known, recorded_at = as_uuid(stored_id), _metadata(metadata, correlation, causation), as_utc(at)
    return [
        RecordedEvent(stream, event, event_id, known, version, position, type, schema_version, recorded_at)
        for event in registry.decode(stream, version, type, schema_version, data)
    ]


# The cache pays off because a page of the log has many events of few streams, and checking a StreamId takes as long as
# decoding an event.
stream_of: Callable[[str, str], StreamId] = lru_cache(4096)(StreamId)


def decoded_tail(stream: StreamId, rows: Iterable[TailRow]) -> Iterator[tuple[int, Sequence[Event]]]:
    for version, type, schema_version, data in rows:
        yield version, registry.decode(stream, version, type, schema_version, data)


def recorded_from(append: Append, stored: Iterable[tuple[int, int, datetime]]) -> list[RecordedEvent]:
    """Return the appended events, with the position, version and time that the database assigned."""
    recorded = []
    for pending, (position, version, at) in zip(append.events, stored, strict=True):
        event_type = registry.of(type(pending.event))
        recorded.append(
            RecordedEvent(
                append.stream,
                pending.own_event(),
                pending.event_id,
                dict(append.metadata),
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
    # SQLite's columns hold UTC without an offset.
    return stored if stored.tzinfo is not None else stored.replace(tzinfo=UTC)
