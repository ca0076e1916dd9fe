"""Delete old messages that were published or discarded."""

import time
from datetime import timedelta

from django.db import connections
from django.db.models import Case, Q, Value, When
from django.db.models.functions import Now

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
    `seconds`; the next call deletes the rest. The database's clock decides what is old, so a wrong clock of this host
    deletes nothing too soon. (SQLite has the clock of its host.) Raise `StorageError` if the database fails.
    """
    messages = OutboxMessage.objects.using(conf.settings().database)
    limit = Now() - older_than
    is_old = Q(status=Status.PUBLISHED, published_at__lt=limit) | Q(status=Status.DISCARDED, failed_at__lt=limit)
    finished = messages.filter(status__in=FINISHED).annotate(
        is_old=Case(When(is_old, then=Value(True)), default=Value(False)),
        is_new=Case(When(created_at__gte=limit, then=Value(True)), default=Value(False)),
    )
    deadline = time.monotonic() + seconds
    last, deleted = 0, 0
    while time.monotonic() < deadline:
        with storage_errors("prune messages", connections[conf.settings().database]):
            batch = finished.filter(id__gt=last).order_by("id")
            rows = list(batch.values_list("id", "is_old", "is_new")[:batch_size])
            old = [id for id, is_finished_long_ago, _ in rows if is_finished_long_ago]
            deleted += sum(messages.filter(id__in=chunk).delete()[0] for chunk in chunks(old))
        if len(rows) < batch_size or rows[-1][2]:
            break
        last = rows[-1][0]
    return deleted
