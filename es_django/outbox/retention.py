"""Deletes messages whose story has ended."""

import time
from datetime import datetime, timedelta

from django.db import connections
from django.utils import timezone

from es_django import conf
from es_django.models import OutboxMessage
from es_django.outbox.states import Status
from es_django.store.error_translation import storage_errors

ENDED = (Status.PUBLISHED, Status.DISCARDED)


def prune_messages(older_than: timedelta, *, batch_size: int = 1000, seconds: float = 20.0) -> int:
    """Deletes messages that were published or discarded longer ago than `older_than`, and returns how many.

    It walks the table by id in batches, each a short transaction of its own, up to the first message that is younger
    than that; so it reads little but what it deletes, and needs no index of its own. It ends
    after about `seconds`; the next call does the rest. Raises `StorageError` if the database fails.
    """
    messages = OutboxMessage.objects.using(conf.settings().database)
    limit = timezone.now() - older_than
    deadline = time.monotonic() + seconds
    last, deleted = 0, 0
    while time.monotonic() < deadline:
        with storage_errors("prune messages", connections[conf.settings().database]):
            batch = messages.filter(id__gt=last, status__in=ENDED).order_by("id")[:batch_size]
            rows = list(batch.only("status", "created_at", "published_at", "failed_at"))
            over = [row.id for row in rows if _ended_before(limit, row)]
            deleted += messages.filter(id__in=over).delete()[0]
        if len(rows) < batch_size or rows[-1].created_at >= limit:
            break
        last = rows[-1].id
    return deleted


def _ended_before(limit: datetime, message: OutboxMessage) -> bool:
    ended = {Status.PUBLISHED: message.published_at, Status.DISCARDED: message.failed_at}.get(Status(message.status))
    return ended is not None and ended < limit
