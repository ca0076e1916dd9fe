"""The parts of the event store that PostgreSQL and SQLite share: transactions and reads."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, cast
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Coalesce, Now
from django.db.transaction import TransactionManagementError

from es_django import conf
from es_django.core.aggregates import IsCommitted, already_committed
from es_django.core.chunks import chunks
from es_django.core.events import Event, RecordedEvent
from es_django.core.registry import registry
from es_django.core.replay_errors import ReplayError
from es_django.core.streams import StreamId
from es_django.messages.message import StagedMessage
from es_django.models import StoredEvent, Stream
from es_django.store import sql
from es_django.store.base import EventStore
from es_django.store.commit_tracking import CommitTracker, tracked_atomic
from es_django.store.error_translation import require_healthy_transaction, storage_errors
from es_django.store.errors import AggregateNotFound, DuplicateMessage
from es_django.store.hooks import after_messages, run_inline_projections
from es_django.store.idempotency import append_all_once
from es_django.store.reads import ALL_STREAMS, Loaded, Page, Partition
from es_django.store.row_mapping import EventRow, TailRow, decoded_tail, recorded_events, stream_of
from es_django.store.writes import Append

PAGE_SIZE = 1000
END = 2**63 - 1

STORE_MESSAGES = "outbox messages can only be stored"
RUN_INLINE = "inline projections can only run"


class DatabaseEventStore(EventStore):
    """The event store in one database of the Django project."""

    def __init__(self, using: str) -> None:
        self.using = using

    @property
    def connection(self) -> BaseDatabaseWrapper:
        return connections[self.using]

    @property
    def in_transaction(self) -> bool:
        blocks: Sequence[Any] = self.connection.atomic_blocks
        return any(not block._from_testcase for block in blocks)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with ExitStack() as block:
            with storage_errors("begin a transaction", self.connection):
                block.enter_context(tracked_atomic(self.connection))
            yield
            with storage_errors("commit a transaction", self.connection):
                block.close()

    def commit_tracker(self) -> IsCommitted:
        return CommitTracker(self.connection) if self.connection.in_atomic_block else already_committed

    def _require_autocommit(self, connection: BaseDatabaseWrapper) -> None:
        if connection.in_atomic_block or connection.autocommit:
            return
        with storage_errors("open a connection", connection):
            is_on = connection.get_autocommit()
        if not is_on:
            raise TransactionManagementError(
                f"autocommit is off on {self.using!r}, so a rollback would go unnoticed: write inside atomic() instead"
            )

    def _require_configured_database(self, action: str) -> None:
        # The relay reads only the configured database, and a read model must commit together with its events.
        if self.using != (only := conf.settings().database):
            raise ImproperlyConfigured(f'{action} in ES_DJANGO["DATABASE"], which is {only!r}, not {self.using!r}')

    def _append_all(self, appends: Sequence[Append]) -> tuple[list[RecordedEvent], bool]:
        connection = self.connection
        self._require_autocommit(connection)
        has_messages = runs_inline = False
        for append in appends:
            has_messages = has_messages or bool(append.messages)
            runs_inline = runs_inline or append.runs_inline
        if has_messages:
            self._require_configured_database(STORE_MESSAGES)
        if runs_inline:
            self._require_configured_database(RUN_INLINE)
        insert = partial(self._insert, connection)
        if self._appends_in_one_statement and len(appends) == 1 and appends[0].events and not runs_inline:
            with storage_errors("append", connection, writes=True):
                recorded, are_new = append_all_once(self, appends, insert)
        else:
            with storage_errors("append", connection), tracked_atomic(connection):
                recorded, are_new = append_all_once(self, appends, insert)
                if runs_inline and are_new:
                    run_inline_projections(recorded, skip=self._projections_run_from_checkpoint())
                    require_healthy_transaction("append", connection)
        if has_messages and are_new:
            for hook in after_messages:
                hook(self.using)
        return recorded, are_new

    def _send(self, staged: StagedMessage) -> None:
        message = staged.message
        self._require_configured_database(STORE_MESSAGES)
        connection = self.connection
        self._require_autocommit(connection)
        parameters = {
            "message_id": message.message_id.hex,
            "destination": message.destination,
            "type": message.type,
            "key": message.key,
            "data": staged.data,
            "headers": staged.headers,
            "delay": message.delay_seconds,
        }
        with storage_errors("store an outbox message", connection, writes=True):
            if not self._fetch(self._send_statement, parameters):
                raise DuplicateMessage([message.message_id])
        for hook in after_messages:
            hook(self.using)

    def _fetch(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a statement. PostgreSQL prepares the statement, because it is executed often."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cast("list[tuple[Any, ...]]", cursor.fetchall())

    _appends_in_one_statement: bool
    _send_statement: str

    @abstractmethod
    def _insert(self, connection: BaseDatabaseWrapper, append: Append) -> list[RecordedEvent] | None:
        """Insert the events of one append, as `idempotency.Insert` describes."""

    def _archive(self, stream: StreamId) -> None:
        with storage_errors("archive a stream", self.connection, writes=True):
            found = Stream.objects.using(self.using).filter(category=stream.category, key=stream.key)
            # The UPDATE waits for the row lock of an append in flight, and later appends see `archived_at`.
            if not found.update(archived_at=Coalesce("archived_at", Now())):
                raise AggregateNotFound(stream)

    @abstractmethod
    def _select_many(self, category: str, keys: list[str], schema: str | None) -> list[tuple[Any, ...]]:
        """Return rows of a key followed by a `TailRow`, by key and version. A snapshot is a row with type None."""

    def _projections_run_from_checkpoint(self) -> Set[str]:
        """Return the names of the projections that now run from their checkpoint. No append may run these."""
        # The append already holds the lock that a rebuild must wait for. This statement starts after the lock was
        # granted, so it sees the status that the last rebuild has committed.
        return {name for (name,) in self._fetch(sql.PROJECTIONS_RUN_FROM_CHECKPOINT, {})}

    @abstractmethod
    def order_problems(self) -> list[str]:
        """Return a sentence for each fact that makes the order of the log untrue, with its remedy.

        While there is one, reading the log raises `LogOutOfOrder`.
        """

    @abstractmethod
    def hold_inline_projections(self) -> None:
        """Wait for the appends in flight that run inline projections, and block later ones until the transaction ends.

        Raise a retryable `StorageError` if the appends in flight take too long.
        """

    @abstractmethod
    def _select_log(
        self,
        after: int,
        end: int,
        limit: int,
        categories: list[str] | None,
        types: list[str] | None,
        partition: Partition,
    ) -> list[tuple[Any, ...]]: ...

    def _read_stream(
        self, stream: StreamId, after: int, wanted: int | None, backwards: bool
    ) -> Iterator[RecordedEvent]:
        size, before = PAGE_SIZE if wanted is None else max(1, min(PAGE_SIZE, wanted)), END
        while True:
            with storage_errors("read a stream", self.connection):
                rows = self._select_stream(stream, after, before, size, backwards)
            for row in rows:
                events = recorded_events(stream, row)
                yield from reversed(events) if backwards else events
            if len(rows) < size:
                return
            if backwards:
                before = rows[-1][1]
            else:
                after = rows[-1][1]

    def load(self, stream: StreamId, *, schema: str | None = None, limit: int | None = None) -> Loaded:
        if schema is None:
            return Loaded(None, self._tail(stream, self._select_tail(stream, 0, limit), limit))
        identity = {"category": stream.category, "key": stream.key}
        with storage_errors("load a stream", self.connection):
            rows = cast(
                "list[TailRow]", self._fetch(sql.SNAPSHOT_AND_TAIL, {**identity, "schema": schema, "limit": PAGE_SIZE})
            )
        if not rows or rows[0][1] is not None:
            return Loaded(None, self._tail(stream, rows, None))
        version, _, _, state = rows.pop(0)
        return Loaded((version, state), self._tail(stream, rows, None))

    def load_many(self, category: str, keys: Sequence[str], *, schema: str | None = None) -> dict[str, Loaded]:
        loaded = {}
        for chunk in chunks(keys):
            with storage_errors("load streams", self.connection):
                rows = self._select_many(category, chunk, schema)
            for key, of_stream in groupby(rows, key=itemgetter(0)):
                tail = [row[1:] for row in of_stream]
                snapshot = None
                if tail[0][1] is None:
                    version, _, _, state = tail.pop(0)
                    snapshot = (version, state)
                loaded[key] = Loaded(snapshot, decoded_tail(StreamId(category, key), tail))
        return loaded

    def contains(self, event_id: UUID) -> bool:
        with storage_errors("look an event up", self.connection):
            return StoredEvent.objects.using(self.using).filter(event_id=event_id).exists()

    def _tail(self, stream: StreamId, rows: list[TailRow], limit: int | None) -> Iterator[tuple[int, Sequence[Event]]]:
        while rows:
            yield from decoded_tail(stream, rows)
            if len(rows) < PAGE_SIZE:
                return
            rows = self._select_tail(stream, rows[-1][0], limit)

    def _select_tail(self, stream: StreamId, after: int, limit: int | None) -> list[TailRow]:
        size = PAGE_SIZE if limit is None else min(PAGE_SIZE, limit - after)
        if size < 1:
            return []
        parameters = {"category": stream.category, "key": stream.key, "after": after, "limit": size}
        with storage_errors("load a stream", self.connection):
            return cast("list[TailRow]", self._fetch(sql.TAIL, parameters))

    def _read_all(
        self, after: int, limit: int, categories: list[str] | None, types: list[str] | None, partition: Partition
    ) -> Page:
        return self._page(after, self.safe_end(), limit, categories, types, partition)

    def read_to_newest(self, *, after: int, limit: int, types: Iterable[type[Event]]) -> Page:
        """Return a page as `read_all` does, but up to the newest event instead of the safe end.

        The caller must block all appends of these events meanwhile.
        """
        newest = StoredEvent.objects.using(self.using).order_by("-position").values_list("position", flat=True)
        with storage_errors("read the log", self.connection):
            end = newest.first() or 0
        return self._page(after, end, limit, None, registry.stored_names(types), ALL_STREAMS)

    def _page(
        self,
        after: int,
        end: int,
        limit: int,
        categories: list[str] | None,
        types: list[str] | None,
        partition: Partition,
    ) -> Page:
        if end <= after:
            return Page([], after)
        with storage_errors("read the log", self.connection):
            rows = self._select_log(after, end, limit, categories, types, partition)
        events: list[RecordedEvent] = []
        for index, row in enumerate(rows):
            try:
                events += recorded_events(stream_of(*row[10:]), cast("EventRow", row[:10]))
            except ReplayError as error:
                if index == 0:
                    error.position = row[0]
                    raise
                # The next page begins with this event, and raises its error.
                return Page(events, rows[index - 1][0], has_more=True)
        has_more = len(rows) == limit
        return Page(events, rows[-1][0] if has_more else end, has_more)

    def _select_stream(
        self, stream: StreamId, after: int, before: int, limit: int, backwards: bool = False
    ) -> list[EventRow]:
        parameters = {"category": stream.category, "key": stream.key, "after": after, "before": before, "limit": limit}
        return cast("list[EventRow]", self._fetch(sql.STREAM_BACKWARDS if backwards else sql.STREAM, parameters))

    def _stream_state(self, stream: StreamId) -> tuple[int, bool]:
        with storage_errors("read a stream's version", self.connection):
            found = Stream.objects.using(self.using).filter(category=stream.category, key=stream.key)
            version, archived_at = found.values_list("version", "archived_at").first() or (0, None)
        return version, archived_at is not None

    def _find_events(self, event_ids: Sequence[UUID]) -> list[tuple[StreamId, int, UUID]]:
        found: list[tuple[str, str, int, UUID]] = []
        for chunk in chunks(event_ids):
            events = StoredEvent.objects.using(self.using).filter(event_id__in=chunk)
            with storage_errors("append", self.connection):
                found += events.values_list("stream__category", "stream__key", "version", "event_id")
        found.sort(key=itemgetter(2))
        return [(StreamId(category, key), version, event_id) for category, key, version, event_id in found]
