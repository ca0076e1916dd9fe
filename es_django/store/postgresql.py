"""The event store in PostgreSQL: an append is one statement, and a reader of the log never passes an event by.

Positions are drawn before commit, so the highest visible one proves nothing about those below it. A writer therefore
holds, from before its first position until it ends, a shared advisory lock whose number says "all my positions are
above this", and a reader stops at the least such number. Shared locks never wait for each other.
"""

from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Any, cast

import psycopg
from django.db.backends.utils import CursorWrapper

from es_django.errors import LockTimeout, StorageError
from es_django.events import RecordedEvent, StreamId, registry
from es_django.store.appends import Append
from es_django.store.base import Partition
from es_django.store.database import DatabaseEventStore, recorded_from
from es_django.store.failures import storage_errors

FLOOR_NAMESPACE = 0x6573
"""Tells the floors of in-flight appends from all other advisory locks; it fits in the key above the position's bits."""

# floor: once per transaction, a lock on "my positions are all above this", before the first position is drawn. A
#        rollback to a savepoint undoes the setting together with the lock.
# stream: the version check; it returns a row only to the one writer that may go on, and moves the version.
# event: the events, in order, only if there is such a row.
# snapshot: the state after them, if it is given; no newer one can exist while the stream's row is held.
# message: their outbox messages.
APPEND = """
WITH floor AS MATERIALIZED (
    SELECT pg_advisory_xact_lock_shared((%(namespace)s::bigint << 47) | (last_value - (NOT is_called)::int)),
           set_config('es_django.floor', 'held', true)
      FROM es_django_event_position_seq
     WHERE coalesce(current_setting('es_django.floor', true), '') = ''
),
opened AS (
    INSERT INTO es_django_stream AS stream (category, key, version, created_at, updated_at)
    SELECT %(category)s::text, %(key)s::text, %(count)s::bigint, clock_timestamp(), clock_timestamp()
     WHERE %(creates)s
        ON CONFLICT (category, key) DO UPDATE
       SET version = stream.version + excluded.version, updated_at = excluded.updated_at
     WHERE stream.version = coalesce(%(version)s::bigint, stream.version) AND stream.archived_at IS NULL
    RETURNING stream.id, stream.version
),
moved AS (
    UPDATE es_django_stream AS stream
       SET version = stream.version + %(count)s::bigint, updated_at = clock_timestamp()
     WHERE NOT %(creates)s AND stream.category = %(category)s AND stream.key = %(key)s
       AND stream.version = coalesce(%(version)s::bigint, stream.version) AND stream.archived_at IS NULL
    RETURNING stream.id, stream.version
),
stream AS (
    SELECT id, version FROM opened UNION ALL SELECT id, version FROM moved
),
event AS (
    INSERT INTO es_django_event (stream_id, version, type, schema_version, data, metadata, correlation_id,
                                 causation_id, event_id, recorded_at)
    SELECT stream.id, stream.version - %(count)s::bigint + new.ordinal, new.type, new.schema_version, new.data::jsonb,
           %(metadata)s::jsonb, %(correlation_id)s::text, %(causation_id)s::text, new.event_id, clock_timestamp()
      FROM stream
     CROSS JOIN (SELECT count(*) FROM floor) AS floor
     CROSS JOIN unnest(%(types)s::text[], %(schema_versions)s::int[], %(data)s::text[], %(event_ids)s::uuid[])
           WITH ORDINALITY AS new (type, schema_version, data, event_id, ordinal)
     ORDER BY new.ordinal
    RETURNING position, version, recorded_at
),
snapshot AS (
    INSERT INTO es_django_snapshot AS known (stream_id, version, schema, state, taken_at)
    SELECT stream.id, stream.version, %(snapshot_schema)s::text, %(snapshot_state)s::jsonb, clock_timestamp()
      FROM stream
     WHERE %(snapshot_schema)s::text IS NOT NULL
        ON CONFLICT (stream_id) DO UPDATE
       SET version = excluded.version, schema = excluded.schema, state = excluded.state, taken_at = excluded.taken_at
),
message AS (
    INSERT INTO es_django_outboxmessage (message_id, destination, type, key, data, headers, stream_id, stream_version,
                                         status, attempts, last_error, available_at, created_at)
    SELECT new.message_id, new.destination, new.type, new.key, new.data::jsonb, new.headers::jsonb, stream.id,
           stream.version - %(count)s::bigint + new.event, 'pending', 0, '',
           clock_timestamp() + make_interval(secs => new.delay), clock_timestamp()
      FROM stream
     CROSS JOIN unnest(%(message_ids)s::uuid[], %(destinations)s::text[], %(message_types)s::text[],
                       %(message_keys)s::text[], %(message_data)s::text[], %(message_headers)s::text[],
                       %(message_events)s::int[], %(message_delays)s::float8[])
           WITH ORDINALITY AS new (message_id, destination, type, key, data, headers, event, delay, ordinal)
     ORDER BY new.ordinal
)
SELECT position, version, recorded_at FROM event ORDER BY version
"""

HIGHEST_POSITION = """
SELECT last_value - (NOT is_called)::int, current_setting('transaction_isolation'), pg_is_in_recovery()
  FROM es_django_event_position_seq
"""

# The reader's own appends do not hold it back: it sees them, and they share its fate.
LEAST_FLOOR = """
SELECT min(((classid::bigint << 32) | objid::bigint) & ((1::bigint << 47) - 1))
  FROM pg_locks
 WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 15 = %s
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND pid IS DISTINCT FROM pg_backend_pid()
"""

# Neighbours in the stream table are often alike: multiplied, their numbers spread over all partitions.
LOG = """
SELECT event.position, event.version, event.type, event.schema_version, event.data, event.metadata,
       event.correlation_id, event.causation_id, event.event_id, event.recorded_at, stream.category, stream.key
  FROM es_django_event AS event JOIN es_django_stream AS stream ON stream.id = event.stream_id
 WHERE event.position > %(after)s AND event.position <= %(end)s
   AND (%(categories)s::text[] IS NULL OR stream.category = ANY(%(categories)s::text[]))
   AND (%(types)s::text[] IS NULL OR event.type = ANY(%(types)s::text[]))
   AND (%(partitions)s = 1 OR (((event.stream_id & 2147483647) * 2654435761) >> 16) %% %(partitions)s = %(partition)s)
 ORDER BY event.position LIMIT %(limit)s
"""


# Two numbers make a key of another kind than the single one of the floors.
LOCK_STREAM = "SELECT pg_advisory_xact_lock(hashtext(%s), hashtext(%s))"

WAITING_LIMIT = "SELECT current_setting('lock_timeout')"

LIMIT_WAITING = "SELECT set_config('lock_timeout', %s, true)"

LOCK_NOT_AVAILABLE = "55P03"

# Two statements in one round trip: what the second one sees begins after the first one has been granted the lock.
SUSPENDED_PROJECTIONS = """
SELECT pg_advisory_xact_lock_shared(25971, 5);
SELECT name FROM es_django_projectioncheckpoint WHERE status <> 'inline'
"""

HOLD_INLINE_PROJECTIONS = "SELECT pg_advisory_xact_lock(25971, 5)"

LONGEST_HOLD_UP = "500ms"
"""How long the appends that arrive meanwhile may have to wait until those in flight have ended."""

MANY = """
SELECT stream.key, snapshot.version, NULL AS type, NULL AS schema_version, snapshot.state AS data
  FROM es_django_stream AS stream
  JOIN es_django_snapshot AS snapshot
    ON snapshot.stream_id = stream.id AND snapshot.schema = %(schema)s AND snapshot.version <= stream.version
 WHERE stream.category = %(category)s AND stream.key = ANY(%(keys)s)
 UNION ALL
SELECT stream.key, event.version, event.type, event.schema_version, event.data
  FROM es_django_stream AS stream
  LEFT JOIN es_django_snapshot AS snapshot
    ON snapshot.stream_id = stream.id AND snapshot.schema = %(schema)s AND snapshot.version <= stream.version
  JOIN es_django_event AS event ON event.stream_id = stream.id AND event.version > coalesce(snapshot.version, 0)
 WHERE stream.category = %(category)s AND stream.key = ANY(%(keys)s)
 ORDER BY 1, 2
"""


SEND = """
INSERT INTO es_django_outboxmessage (message_id, destination, type, key, data, headers, status, attempts, last_error,
                                     available_at, created_at)
VALUES (%(message_id)s, %(destination)s, %(type)s, %(key)s, %(data)s, %(headers)s, 'pending', 0, '',
        clock_timestamp() + make_interval(secs => %(delay)s), clock_timestamp())
    ON CONFLICT (message_id) DO NOTHING
"""


class PostgresqlEventStore(DatabaseEventStore):
    _appends_in_one_statement = True
    _send_statement = SEND

    def _append(self, append: Append) -> list[RecordedEvent] | None:
        with self._server_binding_cursor() as cursor:
            cursor.execute(APPEND, _append_parameters(append))
            rows = cursor.fetchall()
        return recorded_from(append, rows) if rows else None

    def _select_many(self, category: str, keys: list[str], schema: str | None) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(MANY, {"category": category, "keys": keys, "schema": schema})
            return cast("list[tuple[Any, ...]]", cursor.fetchall())

    @contextmanager
    def lock(self, stream: StreamId, timeout: float | None) -> Iterator[None]:
        """PostgreSQL's own queue for the lock is first come, first served, and it frees the lock of whoever dies."""
        with self.transaction():
            try:
                with storage_errors("lock a stream"), self.connection.cursor() as cursor:
                    cursor.execute(WAITING_LIMIT)
                    (before,) = cursor.fetchone()
                    cursor.execute(LIMIT_WAITING, ["0" if timeout is None else f"{max(1, round(timeout * 1000))}ms"])
                    cursor.execute(LOCK_STREAM, [stream.category, stream.key])
                    cursor.execute(LIMIT_WAITING, [before])
            except StorageError as error:
                if timeout is not None and getattr(error.__cause__, "sqlstate", None) == LOCK_NOT_AVAILABLE:
                    raise LockTimeout(stream, timeout) from error
                raise
            yield

    def _suspended_projections(self) -> Set[str]:
        with self.connection.cursor() as cursor:
            cursor.execute(SUSPENDED_PROJECTIONS)
            cursor.nextset()
            return {name for (name,) in cursor.fetchall()}

    def hold_inline_projections(self) -> None:
        with storage_errors("wait for the appends in flight"), self.connection.cursor() as cursor:
            cursor.execute(WAITING_LIMIT)
            (before,) = cursor.fetchone()
            cursor.execute(LIMIT_WAITING, [LONGEST_HOLD_UP])
            cursor.execute(HOLD_INLINE_PROJECTIONS)
            cursor.execute(LIMIT_WAITING, [before])

    def safe_end(self) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute(HIGHEST_POSITION)
            highest, isolation, is_replica = cursor.fetchone()
            if isolation != "read committed":
                raise StorageError("read the log", False, f"events could be skipped in a {isolation} transaction")
            if is_replica:
                raise StorageError("read the log", False, "a replica cannot tell which appends are in flight")
            cursor.execute(LEAST_FLOOR, [FLOOR_NAMESPACE])
            (floor,) = cursor.fetchone()
        return cast("int", highest if floor is None else min(highest, floor))

    def _select_log(
        self,
        after: int,
        end: int,
        limit: int,
        categories: list[str] | None,
        types: list[str] | None,
        partition: Partition,
    ) -> list[tuple[Any, ...]]:
        parameters = {
            "after": after,
            "end": end,
            "limit": limit,
            "categories": categories,
            "types": types,
            "partition": partition.number,
            "partitions": partition.count,
        }
        with self.connection.cursor() as cursor:
            cursor.execute(LOG, parameters)
            return cast("list[tuple[Any, ...]]", cursor.fetchall())

    @contextmanager
    def _server_binding_cursor(self) -> Iterator[CursorWrapper]:
        """Django's cursors bind on the client, which costs more than the append itself for long arrays."""
        connection = self.connection
        connection.close_if_health_check_failed()
        connection.ensure_connection()
        with connection._prepare_cursor(psycopg.Cursor(connection.connection)) as cursor:  # type: ignore[attr-defined]
            yield cursor


def _append_parameters(append: Append) -> dict[str, Any]:
    types = [registry.of(type(pending.event)) for pending in append.events]
    messages = append.messages
    return {
        "namespace": FLOOR_NAMESPACE,
        "category": append.stream.category,
        "key": append.stream.key,
        "creates": append.creates,
        "version": append.version,
        "count": len(append.events),
        "metadata": append.encoded_metadata,
        "correlation_id": append.metadata.get("correlation_id"),
        "causation_id": append.metadata.get("causation_id"),
        "types": [event_type.name for event_type in types],
        "schema_versions": [event_type.version for event_type in types],
        "data": [pending.data for pending in append.events],
        "snapshot_schema": append.snapshot and append.snapshot.schema,
        "snapshot_state": append.snapshot and append.snapshot.state,
        "event_ids": [pending.event_id for pending in append.events],
        "message_ids": [staged.message.message_id for staged in messages],
        "destinations": [staged.message.destination for staged in messages],
        "message_types": [staged.message.type for staged in messages],
        "message_keys": [staged.message.key for staged in messages],
        "message_data": [staged.data for staged in messages],
        "message_headers": [staged.headers for staged in messages],
        "message_events": [staged.ordinal for staged in messages],
        "message_delays": [staged.message.delay_seconds for staged in messages],
    }
