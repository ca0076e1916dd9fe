"""What the two databases share: transactions and reading."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, NoReturn, cast
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Coalesce, Now
from django.db.transaction import TransactionManagementError

from es_django import conf
from es_django.core.aggregates import IsCommitted, committed
from es_django.core.events import Event, RecordedEvent
from es_django.core.registry import registry
from es_django.core.replay_errors import ReplayError
from es_django.core.streams import StreamId
from es_django.messages.message import StagedMessage
from es_django.models import StoredEvent, Stream
from es_django.store.base import WHOLE, EventStore, Loaded, Page, Partition
from es_django.store.commit_tracking import CommitTracker
from es_django.store.error_translation import require_healthy_transaction, storage_errors
from es_django.store.errors import AggregateNotFound, ConcurrencyError, DuplicateEvent, DuplicateMessage, StreamArchived
from es_django.store.hooks import after_messages
from es_django.store.row_mapping import EventRow, TailRow, as_uuid, decoded_tail, recorded_events, stream_of
from es_django.store.writes import Append

PAGE_SIZE = 1000
END = 2**63 - 1

# The stream's id is looked up first, so that the index gives its events in order, and a page of a long stream reads no
# more than a page: joined, they would all be read and sorted for each page.
STREAM = """
SELECT event.position, event.version, event.type, event.schema_version, CAST(event.data AS text),
       CAST(event.metadata AS text), event.correlation_id, event.causation_id, event.event_id, event.recorded_at
  FROM es_django_event AS event
 WHERE event.stream_id = (SELECT id FROM es_django_stream WHERE category = %(category)s AND key = %(key)s)
   AND event.version > %(after)s AND event.version < %(before)s
 ORDER BY event.version LIMIT %(limit)s
"""

STREAM_BACKWARDS = """
SELECT event.position, event.version, event.type, event.schema_version, CAST(event.data AS text),
       CAST(event.metadata AS text), event.correlation_id, event.causation_id, event.event_id, event.recorded_at
  FROM es_django_event AS event
 WHERE event.stream_id = (SELECT id FROM es_django_stream WHERE category = %(category)s AND key = %(key)s)
   AND event.version > %(after)s AND event.version < %(before)s
 ORDER BY event.version DESC LIMIT %(limit)s
"""


UNRELAYED = "messages would never be published from the database"
UNPROJECTED = "an inline projection follows these events, and its read models are not in the commit of the database"

TAIL = """
SELECT event.version, event.type, event.schema_version, CAST(event.data AS text)
  FROM es_django_event AS event
 WHERE event.stream_id = (SELECT id FROM es_django_stream WHERE category = %(category)s AND key = %(key)s)
   AND event.version > %(after)s
 ORDER BY event.version LIMIT %(limit)s
"""

SNAPSHOT_AND_TAIL = """
WITH snapshot AS (
    SELECT snapshot.version, snapshot.state
      FROM es_django_snapshot AS snapshot JOIN es_django_stream AS stream ON stream.id = snapshot.stream_id
     WHERE stream.category = %(category)s AND stream.key = %(key)s
       AND snapshot.schema = %(schema)s AND snapshot.version <= stream.version
)
SELECT version, NULL AS type, NULL AS schema_version, state AS data FROM snapshot
 UNION ALL
SELECT * FROM (
    SELECT event.version, event.type, event.schema_version, CAST(event.data AS text) AS data
      FROM es_django_event AS event
     WHERE event.stream_id = (SELECT id FROM es_django_stream WHERE category = %(category)s AND key = %(key)s)
       AND event.version > coalesce((SELECT version FROM snapshot), 0)
     ORDER BY event.version LIMIT %(limit)s) AS tail
 ORDER BY version
"""


class DatabaseEventStore(EventStore):
    """The event store in one database of the Django project."""

    def __init__(self, using: str) -> None:
        self.using = using

    @property
    def connection(self) -> BaseDatabaseWrapper:
        return connections[self.using]

    @property
    def in_transaction(self) -> bool:
        return self.connection.in_atomic_block

    def transaction(self) -> AbstractContextManager[None]:
        return transaction.atomic(using=self.using)

    def commit_tracker(self) -> IsCommitted:
        return CommitTracker(self.using) if self.in_transaction else committed

    def _require_autocommit(self, connection: BaseDatabaseWrapper) -> None:
        # The attribute is asked first, as the method makes sure of a connection.
        if not (connection.in_atomic_block or connection.autocommit or connection.get_autocommit()):
            raise TransactionManagementError(
                f"autocommit is off on {self.using!r}, so nobody tells of a rollback: write inside atomic() instead"
            )

    def _require_own_database(self, refusal: str) -> None:
        """The relay, and the read models of inline projections, are of one database."""
        if self.using != conf.settings().database:
            raise ImproperlyConfigured(
                f'{refusal} {self.using!r}: ES_DJANGO["DATABASE"] is {conf.settings().database!r}'
            )

    def _write(self, appends: Sequence[Append]) -> list[RecordedEvent]:
        connection = self.connection
        self._require_autocommit(connection)
        told = followed = False
        for append in appends:
            told = told or bool(append.messages)
            followed = followed or append.followed_inline
        if told:
            self._require_own_database(UNRELAYED)
        if followed:
            self._require_own_database(UNPROJECTED)
        if self._appends_in_one_statement and len(appends) == 1 and not followed:
            with storage_errors("append", connection, writes=True):
                return self._append_and_tell(connection, appends, told, followed)
        with storage_errors("append", connection), self.transaction():
            return self._append_and_tell(connection, appends, told, followed)

    def _append_and_tell(
        self, connection: BaseDatabaseWrapper, appends: Sequence[Append], told: bool, followed: bool
    ) -> list[RecordedEvent]:
        recorded = self._append_each(appends, partial(self._append, connection))
        if followed:
            require_healthy_transaction("append", connection)
        if told:
            for hook in after_messages:
                hook(self.using)
        return recorded

    def _send(self, staged: StagedMessage) -> None:
        message = staged.message
        self._require_own_database(UNRELAYED)
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
        """The rows of a statement that is made again and again."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cast("list[tuple[Any, ...]]", cursor.fetchall())

    _appends_in_one_statement: bool
    _send_statement: str

    @abstractmethod
    def _append(self, connection: BaseDatabaseWrapper, append: Append) -> list[RecordedEvent] | None:
        """Stores the events, or nothing and returns None if the stream is elsewhere."""

    def _archive(self, stream: StreamId) -> None:
        with storage_errors("archive a stream", self.connection, writes=True):
            found = Stream.objects.using(self.using).filter(category=stream.category, key=stream.key)
            # The row's lock lets an append in flight end first, and the next one sees the mark.
            if not found.update(archived_at=Coalesce("archived_at", Now())):
                raise AggregateNotFound(stream)

    @abstractmethod
    def _select_many(self, category: str, keys: list[str], schema: str | None) -> list[tuple[Any, ...]]:
        """Rows of key and tail, a stream's snapshot first, as one without type."""

    @abstractmethod
    def _suspended_projections(self) -> Set[str]: ...

    @abstractmethod
    def hold_inline_projections(self) -> None:
        """Keeps all appends that inline projections follow waiting until the transaction ends, once those in flight
        have ended; if they take too long, raises a retryable `StorageError`."""

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

    def _read_stream(self, stream: StreamId, after: int, limit: int | None, backwards: bool) -> Iterator[RecordedEvent]:
        remaining, before = limit, END
        while remaining is None or remaining > 0:
            size = PAGE_SIZE if remaining is None else min(PAGE_SIZE, remaining)
            with storage_errors("read a stream", self.connection):
                rows = self._select_stream(stream, after, before, size, backwards)
            for row in rows:
                yield from recorded_events(stream, row)
            if len(rows) < size:
                return
            if backwards:
                before = rows[-1][1]
            else:
                after = rows[-1][1]
            remaining = None if remaining is None else remaining - len(rows)

    def load(self, stream: StreamId, *, schema: str | None = None, limit: int | None = None) -> Loaded:
        if schema is None:
            return Loaded(None, self._tail(stream, self._select_tail(stream, 0, limit), limit))
        identity = {"category": stream.category, "key": stream.key}
        with storage_errors("load a stream", self.connection):
            rows = cast(
                "list[TailRow]", self._fetch(SNAPSHOT_AND_TAIL, {**identity, "schema": schema, "limit": PAGE_SIZE})
            )
        if not rows or rows[0][1] is not None:
            return Loaded(None, self._tail(stream, rows, None))
        version, _, _, state = rows.pop(0)
        return Loaded((version, state), self._tail(stream, rows, None))

    def load_many(self, category: str, keys: Sequence[str], *, schema: str | None = None) -> dict[str, Loaded]:
        with storage_errors("load streams", self.connection):
            rows = self._select_many(category, list(keys), schema)
        loaded = {}
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
            return cast("list[TailRow]", self._fetch(TAIL, parameters))

    def _read_all(
        self, after: int, limit: int, categories: list[str] | None, types: list[str] | None, partition: Partition
    ) -> Page:
        return self._page(after, self.safe_end(), limit, categories, types, partition)

    def read_settled(self, *, after: int, limit: int, types: Iterable[type[Event]]) -> Page:
        """As `read_all`, up to the newest event, for a caller who keeps all who could append such events waiting."""
        newest = StoredEvent.objects.using(self.using).order_by("-position").values_list("position", flat=True)
        with storage_errors("read the log", self.connection):
            end = newest.first() or 0
        return self._page(after, end, limit, None, registry.stored_names(types), WHOLE)

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
                # What comes before it can be read; the next page begins with it, and raises.
                return Page(events, rows[index - 1][0], has_more=True)
        has_more = len(rows) == limit
        return Page(events, rows[-1][0] if has_more else end, has_more)

    def _select_stream(
        self, stream: StreamId, after: int, before: int, limit: int, backwards: bool = False
    ) -> list[EventRow]:
        parameters = {"category": stream.category, "key": stream.key, "after": after, "before": before, "limit": limit}
        return cast("list[EventRow]", self._fetch(STREAM_BACKWARDS if backwards else STREAM, parameters))

    def _version(self, stream: StreamId) -> int:
        with storage_errors("read a stream's version", self.connection):
            found = Stream.objects.using(self.using).filter(category=stream.category, key=stream.key)
            return found.values_list("version", flat=True).first() or 0

    def _repeated(self, append: Append) -> list[RecordedEvent] | None:
        ids = [event.event_id for event in append.events]
        stored = StoredEvent.objects.using(self.using).filter(event_id__in=ids).order_by("version")
        found = list(stored.values_list("event_id", "stream__category", "stream__key", "version"))
        if not found:
            return None
        _, category, key, first = found[0]
        rows = self._select_stream(append.stream, first - 1, END, len(ids))
        if StreamId(category, key) != append.stream or [as_uuid(row[8]) for row in rows] != ids:
            raise DuplicateEvent([event_id for event_id, *_ in found])
        return [recorded for row in rows for recorded in recorded_events(append.stream, row)]

    def _refuse(self, append: Append) -> NoReturn:
        state = Stream.objects.using(self.using).filter(category=append.stream.category, key=append.stream.key)
        actual, archived_at = state.values_list("version", "archived_at").first() or (0, None)
        if archived_at is not None:
            raise StreamArchived(append.stream)
        raise ConcurrencyError(append.stream, append.expected, actual)
