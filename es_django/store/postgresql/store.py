"""The event store in PostgreSQL: an append is one statement, and a reader of the log never passes an event by.

Positions are drawn before commit, so the highest visible one proves nothing about those below it. A writer therefore
holds, from before its first position until it ends, a shared advisory lock whose number says "all my positions are
above this", and a reader stops at the least such number. Shared locks never wait for each other.
"""

from collections.abc import Iterator, Set
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from django.db.backends.base.base import BaseDatabaseWrapper

from es_django.core.events import RecordedEvent
from es_django.core.streams import StreamId
from es_django.store.base import Partition
from es_django.store.database import DatabaseEventStore
from es_django.store.error_translation import storage_errors
from es_django.store.errors import LockTimeout, StorageError
from es_django.store.postgresql.append import FLOOR_NAMESPACE, append_statement
from es_django.store.postgresql.positions import LAST_DRAWN
from es_django.store.postgresql.prepared import Parameters, fetch
from es_django.store.row_mapping import recorded_from
from es_django.store.writes import Append

HIGHEST_POSITION = f"""
SELECT {LAST_DRAWN}, current_setting('transaction_isolation'), pg_is_in_recovery()
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
SELECT event.position, event.version, event.type, event.schema_version, CAST(event.data AS text),
       CAST(event.metadata AS text), event.correlation_id, event.causation_id, event.event_id, event.recorded_at,
       stream.category, stream.key
  FROM es_django_event AS event JOIN es_django_stream AS stream ON stream.id = event.stream_id
 WHERE event.position > %(after)s AND event.position <= %(end)s
   AND (%(categories)s::text[] IS NULL OR stream.category = ANY(%(categories)s::text[]))
   AND (%(types)s::text[] IS NULL OR event.type = ANY(%(types)s::text[]))
   AND (%(partitions)s = 1
        OR mod(((event.stream_id & 2147483647) * 2654435761) >> 16, %(partitions)s) = %(partition)s)
 ORDER BY event.position LIMIT %(limit)s
"""


# Two numbers make a key of another kind than the single one of the floors.
LOCK_STREAM = "SELECT pg_advisory_xact_lock(hashtext(%s), hashtext(%s))"

WAITING_LIMIT = "SELECT current_setting('lock_timeout')"

LIMIT_WAITING = "SELECT set_config('lock_timeout', %s, true)"

LOCK_NOT_AVAILABLE = "55P03"

SUSPENDED_PROJECTIONS = "SELECT name FROM es_django_projectioncheckpoint WHERE status <> 'inline'"

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
SELECT stream.key, event.version, event.type, event.schema_version, event.data::text
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
RETURNING id
"""


class PostgresqlEventStore(DatabaseEventStore):
    _appends_in_one_statement = True
    _send_statement = SEND

    def _append(self, connection: BaseDatabaseWrapper, append: Append) -> list[RecordedEvent] | None:
        rows = fetch(connection, *append_statement(append, alone=not connection.in_atomic_block))
        return recorded_from(append, sorted(rows)) if rows else None

    def _select_many(self, category: str, keys: list[str], schema: str | None) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(MANY, {"category": category, "keys": keys, "schema": schema})
            return cast("list[tuple[Any, ...]]", cursor.fetchall())

    @contextmanager
    def lock(self, stream: StreamId, timeout: float | None) -> Iterator[None]:
        """PostgreSQL's own queue for the lock is first come, first served, and it frees the lock of whoever dies."""
        with ExitStack() as block:
            try:
                with storage_errors("lock a stream", self.connection):
                    block.enter_context(self.transaction())
                    self._take_lock(stream, "0" if timeout is None else f"{max(1, round(timeout * 1000))}ms")
            except StorageError as error:
                if timeout is not None and getattr(error.__cause__, "sqlstate", None) == LOCK_NOT_AVAILABLE:
                    raise LockTimeout(stream, timeout) from error
                raise
            yield
            with storage_errors("commit what was done under a lock", self.connection):
                block.close()

    def _take_lock(self, stream: StreamId, limit: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(WAITING_LIMIT)
            (before,) = cursor.fetchone()
            cursor.execute(LIMIT_WAITING, [limit])
            cursor.execute(LOCK_STREAM, [stream.category, stream.key])
            cursor.execute(LIMIT_WAITING, [before])

    def _suspended_projections(self) -> Set[str]:
        # The append has taken the lock that whoever changes this waits for, and this statement begins after it.
        return {name for (name,) in self._fetch(SUSPENDED_PROJECTIONS, {})}

    def hold_inline_projections(self) -> None:
        with storage_errors("wait for the appends in flight", self.connection), self.connection.cursor() as cursor:
            cursor.execute(WAITING_LIMIT)
            (before,) = cursor.fetchone()
            cursor.execute(LIMIT_WAITING, [LONGEST_HOLD_UP])
            cursor.execute(HOLD_INLINE_PROJECTIONS)
            cursor.execute(LIMIT_WAITING, [before])

    def safe_end(self) -> int:
        with storage_errors("read the log", self.connection), self.connection.cursor() as cursor:
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
        return fetch(self.connection, LOG, parameters, prepare=False)

    def _fetch(self, statement: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        return fetch(self.connection, statement, parameters)
