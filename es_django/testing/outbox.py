"""What code under test has sent."""

from datetime import timedelta
from typing import TYPE_CHECKING

from es_django import conf
from es_django.core.streams import StreamId
from es_django.messages.message import Message
from es_django.store.backends import store_for
from es_django.store.memory import MemoryEventStore

if TYPE_CHECKING:
    from es_django.models import OutboxMessage


def outbox_messages() -> list[Message]:
    """All that was written to the outbox, oldest first, with data and headers as JSON gives them back.

    What was rolled back is not there; what was published meanwhile still is. It reads the store in memory if that is in
    use, else the database, inside the test's transaction too.
    """
    store = store_for()
    if isinstance(store, MemoryEventStore):
        return list(store.messages)
    from es_django.models import OutboxMessage  # the plugin is loaded before the apps are

    rows = OutboxMessage.objects.using(conf.settings().database).select_related("stream").order_by("id")
    return [_as_written(row) for row in rows]


def _as_written(row: "OutboxMessage") -> Message:
    # The database reads its clock for each of the two times.
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
