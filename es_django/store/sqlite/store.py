"""The event store in SQLite: the same steps as in PostgreSQL, one statement each, inside BEGIN IMMEDIATE.

SQLite has one writer at a time, so positions appear in the order in which they were drawn and no gap can fill up
later; there is no watermark here, on purpose.
"""

import json
from collections.abc import Iterator, Set
from contextlib import ExitStack, contextmanager
from typing import Any, cast
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from es_django.core.events import RecordedEvent
from es_django.core.registry import registry
from es_django.core.streams import StreamId
from es_django.store.base import Partition
from es_django.store.database import DatabaseEventStore
from es_django.store.error_translation import storage_errors
from es_django.store.errors import DuplicateEvent, DuplicateMessage, LockTimeout, StorageError
from es_django.store.fair_lock import fair_lock
from es_django.store.row_mapping import as_utc, recorded_from
from es_django.store.writes import STREAM_EXISTS, Append

FIND_STREAM = """
SELECT id, version FROM es_django_stream WHERE category = %s AND key = %s
"""

OPEN_STREAM = """
INSERT INTO es_django_stream (category, key, version, created_at, updated_at)
VALUES (%s, %s, %s, strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now'), strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now'))
"""

MOVE_STREAM = """
UPDATE es_django_stream SET version = version + %s, updated_at = strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')
 WHERE id = %s AND archived_at IS NULL
"""

INSERT_EVENT = """
INSERT INTO es_django_event (stream_id, version, type, schema_version, data, metadata, correlation_id, causation_id,
                             event_id, recorded_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now'))
"""

INSERT_MESSAGE = """
INSERT INTO es_django_outboxmessage (message_id, destination, type, key, data, headers, stream_id, stream_version,
                                     status, attempts, last_error, available_at, created_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'pending', 0, '',
        strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', %s), strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now'))
"""

PUT_SNAPSHOT = """
INSERT INTO es_django_snapshot (stream_id, version, schema, state, taken_at)
VALUES (%s, %s, %s, %s, strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now'))
    ON CONFLICT (stream_id) DO UPDATE
   SET version = excluded.version, schema = excluded.schema, state = excluded.state, taken_at = excluded.taken_at
"""

KNOWN_EVENTS = """
SELECT event_id FROM es_django_event WHERE event_id IN (SELECT value FROM json_each(%s))
"""

KNOWN_MESSAGES = """
SELECT message_id FROM es_django_outboxmessage WHERE message_id IN (SELECT value FROM json_each(%s))
"""

STORED = """
SELECT position, version, recorded_at FROM es_django_event WHERE stream_id = %s AND version > %s ORDER BY version
"""

LOG = """
SELECT event.position, event.version, event.type, event.schema_version, event.data, event.metadata,
       event.correlation_id, event.causation_id, event.event_id, event.recorded_at, stream.category, stream.key
  FROM es_django_event AS event JOIN es_django_stream AS stream ON stream.id = event.stream_id
 WHERE event.position > %(after)s AND event.position <= %(end)s
   AND (%(categories)s IS NULL OR stream.category IN (SELECT value FROM json_each(%(categories)s)))
   AND (%(types)s IS NULL OR event.type IN (SELECT value FROM json_each(%(types)s)))
   AND (%(partitions)s = 1 OR (((event.stream_id & 2147483647) * 2654435761) >> 16) %% %(partitions)s = %(partition)s)
 ORDER BY event.position LIMIT %(limit)s
"""


MANY = """
SELECT stream.key, snapshot.version, NULL AS type, NULL AS schema_version, snapshot.state AS data
  FROM es_django_stream AS stream
  JOIN es_django_snapshot AS snapshot
    ON snapshot.stream_id = stream.id AND snapshot.schema = %(schema)s AND snapshot.version <= stream.version
 WHERE stream.category = %(category)s AND stream.key IN (SELECT value FROM json_each(%(keys)s))
 UNION ALL
SELECT stream.key, event.version, event.type, event.schema_version, event.data
  FROM es_django_stream AS stream
  LEFT JOIN es_django_snapshot AS snapshot
    ON snapshot.stream_id = stream.id AND snapshot.schema = %(schema)s AND snapshot.version <= stream.version
  JOIN es_django_event AS event ON event.stream_id = stream.id AND event.version > coalesce(snapshot.version, 0)
 WHERE stream.category = %(category)s AND stream.key IN (SELECT value FROM json_each(%(keys)s))
 ORDER BY 1, 2
"""


SEND = """
INSERT INTO es_django_outboxmessage (message_id, destination, type, key, data, headers, status, attempts, last_error,
                                     available_at, created_at)
VALUES (%(message_id)s, %(destination)s, %(type)s, %(key)s, %(data)s, %(headers)s, 'pending', 0, '',
        strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '+' || %(delay)s || ' seconds'),
        strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now'))
    ON CONFLICT (message_id) DO NOTHING
RETURNING id
"""


class SqliteEventStore(DatabaseEventStore):
    _appends_in_one_statement = False
    _send_statement = SEND

    def _append(self, connection: BaseDatabaseWrapper, append: Append) -> list[RecordedEvent] | None:
        count = len(append.events)
        with connection.cursor() as cursor:
            cursor.execute(FIND_STREAM, [append.stream.category, append.stream.key])
            stream_id, before = cursor.fetchone() or (None, 0)
            fits = before > 0 if append.expected is STREAM_EXISTS else append.version in (None, before)
            if not fits:
                return None
            if stream_id is None:
                cursor.execute(OPEN_STREAM, [append.stream.category, append.stream.key, count])
                stream_id = cursor.lastrowid
            else:
                cursor.execute(MOVE_STREAM, [count, stream_id])
                if cursor.rowcount == 0:
                    return None
            # SQLite does not name the constraint that was violated, and nobody else can write in between.
            for known, duplicate, ids in (
                (KNOWN_EVENTS, DuplicateEvent, [event.event_id for event in append.events]),
                (KNOWN_MESSAGES, DuplicateMessage, [staged.message.message_id for staged in append.messages]),
            ):
                cursor.execute(known, [json.dumps([each.hex for each in ids])])
                if found := cursor.fetchall():
                    raise duplicate([UUID(each) for (each,) in found])
            cursor.executemany(INSERT_EVENT, _event_parameters(append, stream_id, before))
            cursor.executemany(INSERT_MESSAGE, _message_parameters(append, stream_id, before))
            if append.snapshot is not None:
                cursor.execute(PUT_SNAPSHOT, [stream_id, before + count, append.snapshot.schema, append.snapshot.state])
            cursor.execute(STORED, [stream_id, before])
            return recorded_from(append, [(position, version, as_utc(at)) for position, version, at in cursor])

    def _select_many(self, category: str, keys: list[str], schema: str | None) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(MANY, {"category": category, "keys": json.dumps(keys), "schema": schema})
            return cast("list[tuple[Any, ...]]", cursor.fetchall())

    @contextmanager
    def lock(self, stream: StreamId, timeout: float | None) -> Iterator[None]:
        """Threads take turns in order of arrival; among processes SQLite's one write lock decides.

        Whoever has a transaction is alone already, and the one to wait for may be waiting for its end.
        """
        options = self.connection.settings_dict["OPTIONS"]
        alone = self.in_transaction and options.get("transaction_mode") == "IMMEDIATE"
        with fair_lock((self.using, stream)).held(0 if alone else timeout) as granted:
            if not granted and not alone:
                raise LockTimeout(stream, timeout or 0)
            with ExitStack() as block:
                try:
                    with storage_errors("lock a stream", self.connection):
                        block.enter_context(self.transaction())
                except StorageError as error:
                    if timeout is not None and error.retryable:
                        raise LockTimeout(stream, timeout) from error
                    raise
                yield
                with storage_errors("commit what was done under a lock", self.connection):
                    block.close()

    def _suspended_projections(self) -> Set[str]:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT name FROM es_django_projectioncheckpoint WHERE status <> 'inline'")
            return {name for (name,) in cursor.fetchall()}

    def hold_inline_projections(self) -> None:
        """Nothing to do: whoever has a transaction is alone."""

    def safe_end(self) -> int:
        with storage_errors("read the log", self.connection), self.connection.cursor() as cursor:
            cursor.execute("SELECT coalesce(max(position), 0) FROM es_django_event")
            return cast("int", cursor.fetchone()[0])

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
            "categories": None if categories is None else json.dumps(categories),
            "types": None if types is None else json.dumps(types),
            "partition": partition.number,
            "partitions": partition.count,
        }
        with self.connection.cursor() as cursor:
            cursor.execute(LOG, parameters)
            return cast("list[tuple[Any, ...]]", cursor.fetchall())


def _event_parameters(append: Append, stream_id: int, before: int) -> list[tuple[Any, ...]]:
    metadata = append.encoded_metadata
    correlation_id = append.metadata.get("correlation_id")
    causation_id = append.metadata.get("causation_id")
    parameters = []
    for version, pending in enumerate(append.events, start=before + 1):
        event_type = registry.of(type(pending.event))
        parameters.append(
            (
                stream_id,
                version,
                event_type.name,
                event_type.version,
                pending.data,
                metadata,
                correlation_id,
                causation_id,
                pending.event_id.hex,
            )
        )
    return parameters


def _message_parameters(append: Append, stream_id: int, before: int) -> list[tuple[Any, ...]]:
    return [
        (
            staged.message.message_id.hex,
            staged.message.destination,
            staged.message.type,
            staged.message.key,
            staged.data,
            staged.headers,
            stream_id,
            before + staged.ordinal,
            f"+{staged.message.delay_seconds:.3f} seconds",
        )
        for staged in append.messages
    ]
