"""Assemble the one statement of an append in PostgreSQL, and its parameters.

The statement leaves out the parts that the append does not need, because PostgreSQL spends time on planning and
starting even a part that does nothing. Several events are one JSON parameter, and so are several messages: an array
parameter for each column would be slower to build in Python.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

import msgspec

from es_django.core.events import PendingEvent
from es_django.core.registry import registry
from es_django.store.postgresql import sql
from es_django.store.writes import ANY, Append


class _NewEvent(msgspec.Struct, frozen=True):
    type: str
    schema_version: int
    data: msgspec.Raw
    event_id: UUID


class _NewMessage(msgspec.Struct, frozen=True):
    message_id: UUID
    destination: str
    type: str
    key: str | None
    data: msgspec.Raw
    headers: msgspec.Raw
    event: int
    delay: float


def append_statement(append: Append, *, alone: bool) -> tuple[str, dict[str, Any]]:
    """Return the statement of an append and its parameters.

    `alone` says that the statement is a transaction of its own. The statement returns the position, version and time of
    each stored event, in any order. It returns no row if the stream is archived or not at the expected version.
    """
    version = append.version
    parameters = {
        "category": append.stream.category,
        "key": append.stream.key,
        "version": version,
        "count": len(append.events),
        "metadata": append.encoded_metadata,
        "correlation_id": append.metadata.get("correlation_id"),
        "causation_id": append.metadata.get("causation_id"),
    }
    several = len(append.events) > 1
    if several:
        parameters["events"] = _events(append.events)
    else:
        (pending,) = append.events
        event_type = registry.of(type(pending.event))
        parameters["type"] = event_type.name
        parameters["schema_version"] = event_type.version
        parameters["data"] = pending.data
        parameters["event_id"] = pending.event_id.hex
    if append.snapshot is not None:
        parameters |= {"schema": append.snapshot.schema, "state": append.snapshot.state}
    if append.messages:
        parameters["messages"] = _messages(append)
    floor = sql.FLOOR if alone else sql.FLOOR_ONCE_RUNS_INLINE if append.runs_inline else sql.FLOOR_ONCE
    if version == 0:
        stream = sql.CREATE_STREAM
    elif append.expected is ANY:
        stream = sql.CREATE_OR_ADVANCE_STREAM
    else:
        stream = sql.ADVANCE_STREAM
    return _statement(stream, floor, several, append.snapshot is not None, bool(append.messages)), parameters


@cache
def _statement(stream: str, floor: str, several: bool, has_snapshot: bool, has_messages: bool) -> str:
    parts = [floor, stream, sql.INSERT_EVENTS if several else sql.INSERT_EVENT]
    if has_snapshot:
        parts.append(sql.PUT_SNAPSHOT)
    if has_messages:
        parts.append(sql.INSERT_MESSAGES)
    return f"WITH {','.join(parts)}{sql.SELECT_STORED}"


def _events(events: Sequence[PendingEvent]) -> str:
    rows = []
    for pending in events:
        event_type = registry.of(type(pending.event))
        rows.append(_NewEvent(event_type.name, event_type.version, msgspec.Raw(pending.data), pending.event_id))
    return _json(rows)


def _messages(append: Append) -> str:
    return _json(
        [
            _NewMessage(
                staged.message.message_id,
                staged.message.destination,
                staged.message.type,
                staged.message.key,
                msgspec.Raw(staged.data),
                msgspec.Raw(staged.headers),
                staged.ordinal,
                staged.message.delay_seconds,
            )
            for staged in append.messages
        ]
    )


def _json(rows: object) -> str:
    return msgspec.json.encode(rows).decode()
