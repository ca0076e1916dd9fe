"""The event store in SQLite: the same steps as in PostgreSQL, one statement each, inside BEGIN IMMEDIATE.

SQLite has one writer at a time, so events appear in the order of their positions, and a gap is never filled later. So
the log needs no floors.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from es_django.core.events import RecordedEvent
from es_django.core.registry import registry
from es_django.core.streams import StreamId
from es_django.store.commit_tracking import tracked_atomic
from es_django.store.database import DatabaseEventStore
from es_django.store.error_translation import storage_errors
from es_django.store.errors import DuplicateEvent, DuplicateMessage, LockTimeout, LogOutOfOrder, StorageError
from es_django.store.fair_lock import fair_lock
from es_django.store.reads import Partition
from es_django.store.row_mapping import as_utc, recorded_from
from es_django.store.sqlite import sql
from es_django.store.writes import STREAM_EXISTS, Append


class SqliteEventStore(DatabaseEventStore):
    _appends_in_one_statement = False
    _send_statement = sql.SEND_MESSAGE

    def _insert(self, connection: BaseDatabaseWrapper, append: Append) -> list[RecordedEvent] | None:
        count = len(append.events)
        with connection.cursor() as cursor:
            cursor.execute(sql.FIND_STREAM, [append.stream.category, append.stream.key])
            stream_id, before = cursor.fetchone() or (None, 0)
            fits = before > 0 if append.expected is STREAM_EXISTS else append.version in (None, before)
            if not fits:
                return None
            if stream_id is None:
                cursor.execute(sql.CREATE_STREAM, [append.stream.category, append.stream.key, count])
                stream_id = cursor.lastrowid
            else:
                cursor.execute(sql.ADVANCE_STREAM, [count, stream_id])
                if cursor.rowcount == 0:
                    return None
            # SQLite does not name a violated constraint, so look for known ids before the inserts. No other writer can
            # store these ids after the check.
            for known, duplicate, ids in (
                (sql.KNOWN_EVENTS, DuplicateEvent, [event.event_id for event in append.events]),
                (sql.KNOWN_MESSAGES, DuplicateMessage, [staged.message.message_id for staged in append.messages]),
            ):
                cursor.execute(known, [json.dumps([each.hex for each in ids])])
                if found := cursor.fetchall():
                    raise duplicate([UUID(each) for (each,) in found])
            cursor.executemany(sql.INSERT_EVENT, _event_parameters(append, stream_id, before))
            cursor.executemany(sql.INSERT_MESSAGE, _message_parameters(append, stream_id, before))
            if append.snapshot is not None:
                cursor.execute(
                    sql.PUT_SNAPSHOT, [stream_id, before + count, append.snapshot.schema, append.snapshot.state]
                )
                cursor.execute(sql.PRUNE_SNAPSHOTS, {"stream": stream_id, "schema": append.snapshot.schema})
            cursor.execute(sql.SELECT_STORED, [stream_id, before])
            return recorded_from(append, [(position, version, as_utc(at)) for position, version, at in cursor])

    def _hold(self, streams: Sequence[StreamId]) -> list[int]:
        with self.connection.cursor() as cursor:
            # Any UPDATE makes the transaction the only writer, also if it did not begin as IMMEDIATE.
            cursor.execute(sql.BECOME_WRITER)
            versions = []
            for stream in streams:
                cursor.execute(sql.FIND_STREAM, [stream.category, stream.key])
                _, version = cursor.fetchone() or (None, 0)
                versions.append(version)
            return versions

    def _select_many(self, category: str, keys: list[str], schema: str | None) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql.SELECT_MANY, {"category": category, "keys": json.dumps(keys), "schema": schema})
            return cast("list[tuple[Any, ...]]", cursor.fetchall())

    @contextmanager
    def lock(self, stream: StreamId, timeout: float | None) -> Iterator[None]:
        """Grant the lock to threads in order of arrival; between processes, SQLite's single write lock decides.

        A caller inside an immediate transaction is the only writer already. It must not wait: the thread that it would
        wait for may itself be waiting for the end of that transaction.
        """
        options = self.connection.settings_dict["OPTIONS"]
        is_only_writer = self.connection.in_atomic_block and options.get("transaction_mode") == "IMMEDIATE"
        with fair_lock((self.using, stream)).held(0 if is_only_writer else timeout) as granted:
            if not granted and not is_only_writer:
                raise LockTimeout(stream, timeout or 0)
            with ExitStack() as block:
                try:
                    with storage_errors("lock a stream", self.connection):
                        block.enter_context(tracked_atomic(self.connection))
                except StorageError as error:
                    if timeout is not None and error.retryable:
                        raise LockTimeout(stream, timeout) from error
                    raise
                yield
                with storage_errors("commit the work under a lock", self.connection):
                    block.close()

    def hold_inline_projections(self) -> None:
        """Do nothing: the caller's transaction is the only writer."""

    def safe_end(self) -> int:
        newest, problems = self._end_of_log("read the log")
        if problems:
            raise LogOutOfOrder("read the log", False, "; ".join(problems))
        return newest

    def order_problems(self) -> list[str]:
        return self._end_of_log("check the log")[1]

    def _end_of_log(self, operation: str) -> tuple[int, list[str]]:
        with storage_errors(operation, self.connection), self.connection.cursor() as cursor:
            cursor.execute(sql.END_OF_LOG)
            newest, last_drawn = cursor.fetchone()
        if last_drawn >= newest:
            return newest, []
        remedy = f"replace its rows of that name by one with seq {newest}"
        return newest, [f"sqlite_sequence has es_django_event at {last_drawn}, but {newest} is stored: {remedy}"]

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
            cursor.execute(sql.SELECT_LOG, parameters)
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
            f"{staged.message.delay_seconds:.3f}",
        )
        for staged in append.messages
    ]
