"""Delete old messages that were published or discarded."""

import time
from datetime import datetime, timedelta

from django.db import connections
from django.utils import timezone

from es_django import conf
from es_django.core.chunks import chunks
from es_django.models import OutboxMessage
from es_django.outbox.states import Status
from es_django.store.error_translation import storage_errors

FINISHED = (Status.PUBLISHED, Status.DISCARDED)


def prune_messages(older_than: timedelta, *, batch_size: int = 1000, seconds: float = 20.0) -> int:
    """Delete messages that were published or discarded longer ago than `older_than`. Return how many were deleted.

    Read the table by id in batches, and stop at a batch that ends with a message newer than `older_than`. So this reads
    few rows that it does not delete, and needs no index of its own. Each batch is a short transaction. End after about
    `seconds`; the next call deletes the rest. Raise `StorageError` if the database fails.
    """
    messages = OutboxMessage.objects.using(conf.settings().database)
    limit = timezone.now() - older_than
    deadline = time.monotonic() + seconds
    last, deleted = 0, 0
    while time.monotonic() < deadline:
        with storage_errors("prune messages", connections[conf.settings().database]):
            batch = messages.filter(id__gt=last, status__in=FINISHED).order_by("id")[:batch_size]
            rows = list(batch.only("status", "created_at", "published_at", "failed_at"))
            old = [row.id for row in rows if _finished_before(limit, row)]
            deleted += sum(messages.filter(id__in=chunk).delete()[0] for chunk in chunks(old))
        if len(rows) < batch_size or rows[-1].created_at >= limit:
            break
        last = rows[-1].id
    return deleted


def _finished_before(limit: datetime, message: OutboxMessage) -> bool:
    finished = {Status.PUBLISHED: message.published_at, Status.DISCARDED: message.failed_at}.get(Status(message.status))
    return finished is not None and finished < limit
