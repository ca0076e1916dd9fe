"""The one statement of an append in PostgreSQL: made of the parts that this append needs, each of them a constant.

A part that would do nothing costs as much to plan and to start as one that does something. Several events travel as one
JSON text, and so do messages, since arrays are slow to make in Python.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

import msgspec

from es_django.core.events import PendingEvent
from es_django.core.registry import registry
from es_django.store.postgresql.positions import LAST_DRAWN
from es_django.store.writes import ANY, Append

FLOOR_NAMESPACE = 0x6573
"""Tells the floors of in-flight appends from all other advisory locks; it fits in the key above the position's bits."""

# A lock on "my positions are all above this"; the same, once per transaction: a rollback to a savepoint undoes the
# setting together with the lock.
_HELD = f"pg_advisory_xact_lock_shared({FLOOR_NAMESPACE << 47} | {LAST_DRAWN})"
_HELD_ONCE = f"""
CASE WHEN coalesce(current_setting('es_django.floor', true), '') = ''
     THEN CAST({_HELD} AS text) || set_config('es_django.floor', 'held', true) END
"""

# The events are joined to its one row, so that it is there before the first position is drawn. Where inline projections
# follow, with a lock on "which of them are suspended": a rebuild waits for all who may have seen otherwise.
FLOOR = f"floor AS MATERIALIZED (SELECT {_HELD})"
FLOOR_ONCE = f"floor AS MATERIALIZED (SELECT {_HELD_ONCE})"
FLOOR_ONCE_FOLLOWED_INLINE = f"floor AS MATERIALIZED (SELECT {_HELD_ONCE}, pg_advisory_xact_lock_shared(25971, 5))"

# The version check, where the stream must be new, may be new, or must be there: it returns a row only to the one writer
# that may go on, and moves the version.
NEW_STREAM = """
stream AS (
    INSERT INTO es_django_stream AS stream (category, key, version, created_at, updated_at)
    VALUES (%(category)s::text, %(key)s::text, %(count)s::bigint, clock_timestamp(), clock_timestamp())
        ON CONFLICT (category, key) DO NOTHING
    RETURNING stream.id, stream.version
)
"""

OPENED_STREAM = """
stream AS (
    INSERT INTO es_django_stream AS stream (category, key, version, created_at, updated_at)
    VALUES (%(category)s::text, %(key)s::text, %(count)s::bigint, clock_timestamp(), clock_timestamp())
        ON CONFLICT (category, key) DO UPDATE
       SET version = stream.version + excluded.version, updated_at = excluded.updated_at
     WHERE stream.archived_at IS NULL
    RETURNING stream.id, stream.version
)
"""

MOVED_STREAM = """
stream AS (
    UPDATE es_django_stream AS stream
       SET version = stream.version + %(count)s::bigint, updated_at = clock_timestamp()
     WHERE stream.category = %(category)s::text AND stream.key = %(key)s::text
       AND stream.version = coalesce(%(version)s::bigint, stream.version) AND stream.archived_at IS NULL
    RETURNING stream.id, stream.version
)
"""

# The event, only if there is such a row.
EVENT = """
event AS (
    INSERT INTO es_django_event (stream_id, version, type, schema_version, data, metadata, correlation_id,
                                 causation_id, event_id, recorded_at)
    SELECT stream.id, stream.version, %(type)s::text, %(schema_version)s::int, %(data)s::jsonb, %(metadata)s::jsonb,
           %(correlation_id)s::text, %(causation_id)s::text, %(event_id)s::uuid, clock_timestamp()
      FROM stream
     CROSS JOIN floor
    RETURNING position, version, recorded_at
)
"""

# Several of them, in order.
EVENTS = """
event AS (
    INSERT INTO es_django_event (stream_id, version, type, schema_version, data, metadata, correlation_id,
                                 causation_id, event_id, recorded_at)
    SELECT stream.id, stream.version - %(count)s::bigint + new.ordinal, new.type, new.schema_version, new.data,
           %(metadata)s::jsonb, %(correlation_id)s::text, %(causation_id)s::text, new.event_id, clock_timestamp()
      FROM stream
     CROSS JOIN floor
     CROSS JOIN ROWS FROM (jsonb_to_recordset(%(events)s::jsonb)
           AS (type text, schema_version int, data jsonb, event_id uuid))
           WITH ORDINALITY AS new (type, schema_version, data, event_id, ordinal)
     ORDER BY new.ordinal
    RETURNING position, version, recorded_at
)
"""

# The state after them; no newer snapshot can exist while the stream's row is held.
SNAPSHOT = """
snapshot AS (
    INSERT INTO es_django_snapshot AS known (stream_id, version, schema, state, taken_at)
    SELECT stream.id, stream.version, %(schema)s::text, %(state)s::text, clock_timestamp()
      FROM stream
        ON CONFLICT (stream_id) DO UPDATE
       SET version = excluded.version, schema = excluded.schema, state = excluded.state, taken_at = excluded.taken_at
)
"""

MESSAGES = """
message AS (
    INSERT INTO es_django_outboxmessage (message_id, destination, type, key, data, headers, stream_id, stream_version,
                                         status, attempts, last_error, available_at, created_at)
    SELECT new.message_id, new.destination, new.type, new.key, coalesce(new.data, 'null'), new.headers, stream.id,
           stream.version - %(count)s::bigint + new.event, 'pending', 0, '',
           clock_timestamp() + make_interval(secs => new.delay), clock_timestamp()
      FROM stream
     CROSS JOIN ROWS FROM (jsonb_to_recordset(%(messages)s::jsonb)
           AS (message_id uuid, destination text, type text, key text, data jsonb, headers jsonb, event int,
               delay float8))
           WITH ORDINALITY AS new (message_id, destination, type, key, data, headers, event, delay, ordinal)
     ORDER BY new.ordinal
)
"""

STORED = "SELECT position, version, recorded_at FROM event"


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
    """The statement, for a transaction of its own if `alone`, and its parameters. It returns the stored events'
    position, version and time, in any order; no row at all if the stream is not where the writer expected it."""
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
    floor = FLOOR if alone else FLOOR_ONCE_FOLLOWED_INLINE if append.followed_inline else FLOOR_ONCE
    stream = NEW_STREAM if version == 0 else OPENED_STREAM if append.expected is ANY else MOVED_STREAM
    return _statement(stream, floor, several, append.snapshot is not None, bool(append.messages)), parameters


@cache
def _statement(stream: str, floor: str, several: bool, has_snapshot: bool, has_messages: bool) -> str:
    parts = [floor, stream, EVENTS if several else EVENT]
    if has_snapshot:
        parts.append(SNAPSHOT)
    if has_messages:
        parts.append(MESSAGES)
    return f"WITH {','.join(parts)}{STORED}"


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
