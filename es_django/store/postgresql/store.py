"""The event store in PostgreSQL: an append is one statement, and a reader of the log never skips an event."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import msgspec
from django.db.backends.base.base import BaseDatabaseWrapper

from es_django.core.events import RecordedEvent
from es_django.core.streams import StreamId
from es_django.store.commit_tracking import tracked_atomic
from es_django.store.database import DatabaseEventStore
from es_django.store.error_translation import storage_errors
from es_django.store.errors import LockTimeout, LogOutOfOrder, StorageError, TooManyLocks
from es_django.store.postgresql import sql
from es_django.store.postgresql.append import append_statement
from es_django.store.postgresql.execution import fetch
from es_django.store.postgresql.plain_cursor import Parameters
from es_django.store.postgresql.sequences import problems as problems_of_sequence
from es_django.store.reads import Partition
from es_django.store.row_mapping import recorded_from
from es_django.store.writes import Append

LOCK_NOT_AVAILABLE = "55P03"
"""The SQLSTATE of a lock that was not granted within `lock_timeout`."""

MAX_STREAM_LOCKS = 1000
"""The number of streams that one transaction may lock. All transactions of a server share one lock table, which holds
about 6,400 locks by default."""

HOLD_TIMEOUT = "500ms"
"""The time that a rebuild waits for the appends in flight. Appends that arrive meanwhile wait as long."""


class PostgresqlEventStore(DatabaseEventStore):
    _appends_in_one_statement = True
    _send_statement = sql.SEND_MESSAGE

    def _insert(self, connection: BaseDatabaseWrapper, append: Append) -> list[RecordedEvent] | None:
        rows = fetch(connection, *append_statement(append, alone=not connection.in_atomic_block))
        return recorded_from(append, sorted(rows)) if rows else None

    def _hold(self, streams: Sequence[StreamId]) -> list[int]:
        names = msgspec.json.encode(streams).decode()
        rows = fetch(self.connection, sql.HOLD_STREAMS, {"streams": names}, prepare=False)
        versions = {StreamId(category, key): version for category, key, version in rows}
        if 0 in versions.values():
            fetch(self.connection, sql.REMOVE_PLACEHOLDERS, {"streams": names}, prepare=False)
        return [versions[stream] for stream in streams]

    def _select_many(self, category: str, keys: list[str], schema: str | None) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql.SELECT_MANY, {"category": category, "keys": keys, "schema": schema})
            return cast("list[tuple[Any, ...]]", cursor.fetchall())

    @contextmanager
    def lock(self, stream: StreamId, timeout: float | None) -> Iterator[None]:
        """PostgreSQL grants the lock in order of arrival, and releases it if its holder dies."""
        with ExitStack() as block:
            try:
                with storage_errors("lock a stream", self.connection):
                    block.enter_context(tracked_atomic(self.connection))
                    limit = "0" if timeout is None else f"{max(1, round(timeout * 1000))}ms"
                    _, locks = self._take_lock(limit, sql.LOCK_STREAM, [stream.key, stream.category])
                    if int(locks) > MAX_STREAM_LOCKS:
                        self._require_few_locks(stream)
            except StorageError as error:
                if timeout is not None and getattr(error.__cause__, "sqlstate", None) == LOCK_NOT_AVAILABLE:
                    raise LockTimeout(stream, timeout) from error
                raise
            yield
            with storage_errors("commit the work under a lock", self.connection):
                block.close()

    def _require_few_locks(self, stream: StreamId) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql.COUNT_LOCKS)
            (locks,) = cursor.fetchone()
            if locks > MAX_STREAM_LOCKS:
                raise TooManyLocks(stream, MAX_STREAM_LOCKS)
            cursor.execute(sql.SET_NUMBER_OF_LOCKS, [str(locks)])

    def _take_lock(self, timeout: str, lock: str, parameters: Sequence[str] = ()) -> tuple[Any, ...]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql.GET_LOCK_TIMEOUT)
            (before,) = cursor.fetchone()
            cursor.execute(sql.SET_LOCK_TIMEOUT, [timeout])
            cursor.execute(lock, parameters)
            row = cast("tuple[Any, ...]", cursor.fetchone())
            cursor.execute(sql.SET_LOCK_TIMEOUT, [before])
            return row

    def hold_inline_projections(self) -> None:
        with storage_errors("wait for the appends in flight", self.connection):
            self._take_lock(HOLD_TIMEOUT, sql.HOLD_INLINE_PROJECTIONS)

    def safe_end(self) -> int:
        with storage_errors("read the log", self.connection):
            ((*facts, isolation, is_replica),) = self._fetch(sql.END_OF_LOG, {})
            if isolation != "read committed":
                reason = f"events could be skipped in a {isolation} transaction: read the log under READ COMMITTED"
                raise StorageError("read the log", False, reason)
            if is_replica:
                reason = "a replica does not know which appends are in flight: read the log on the primary"
                # After a failover, the replica is promoted, or the connection leads to the new primary.
                raise StorageError("read the log", True, reason)
            if problems := problems_of_sequence("es_django_event", "position", *facts):
                raise LogOutOfOrder("read the log", False, "; ".join(problems))
            ((floor,),) = self._fetch(sql.LOWEST_FLOOR, {})
        last_drawn: int = facts[0]
        return last_drawn if floor is None else min(last_drawn, cast("int", floor))

    def order_problems(self) -> list[str]:
        with storage_errors("check the log", self.connection):
            ((*facts, _, _),) = self._fetch(sql.END_OF_LOG, {})
        return problems_of_sequence("es_django_event", "position", *facts)

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
        return fetch(self.connection, sql.SELECT_LOG, parameters, prepare=False)

    def _fetch(self, statement: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        return fetch(self.connection, statement, parameters)
