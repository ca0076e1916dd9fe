"""The messages that the code under test has sent."""

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import connections

from es_django import conf
from es_django.core.streams import StreamId
from es_django.messages.message import Message
from es_django.store.backends import store_for
from es_django.store.error_translation import storage_errors
from es_django.store.memory import MemoryEventStore

if TYPE_CHECKING:
    from es_django.models import OutboxMessage


def outbox_messages() -> list[Message]:
    """Return all messages that were written to the outbox, oldest first, with data and headers decoded from JSON.

    Include messages that have been published since, but not messages of a transaction that was rolled back. Read the
    event store in memory if it is in use. Otherwise read the database, where the test's own transaction is visible.

    Raise `StorageError` if the database fails.
    """
    store = store_for()
    if isinstance(store, MemoryEventStore):
        return list(store.messages)
    from es_django.models import OutboxMessage  # pytest loads the plugin before Django loads the apps

    using = conf.settings().database
    rows = OutboxMessage.objects.using(using).select_related("stream").order_by("id")
    with storage_errors("read the outbox", connections[using]):
        return [_as_written(row) for row in rows]


def _as_written(row: "OutboxMessage") -> Message:
    # The database read its clock for each of the two times, so they differ by slightly more than the delay.
    delay = round((row.available_at - row.created_at).total_seconds(), 2)
    return Message(
        type=row.type,
        data=row.data,
        key=row.key,
        headers=row.headers,
        delay=timedelta(seconds=delay) if delay and not row.attempts else None,
        message_id=row.message_id,
        destination=row.destination,
        stream=None if row.stream is None else StreamId(row.stream.category, row.stream.key),
        stream_version=row.stream_version,
    )
