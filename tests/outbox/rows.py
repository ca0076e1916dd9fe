"""Read the messages of the outbox, in a database or in memory, and change their times as if time had passed."""

import time
from datetime import timedelta
from typing import NamedTuple

from django.utils import timezone

from es_django.models import OutboxMessage
from es_django.outbox import circuit_breaker
from es_django.outbox.backends import outbox_store
from es_django.outbox.memory import MemoryOutbox
from es_django.outbox.states import Status


class Row(NamedTuple):
    status: Status
    attempts: int
    last_error: str
    is_due: bool


def rows() -> list[Row]:
    """Return all messages, in order."""
    store = outbox_store()
    if isinstance(store, MemoryOutbox):
        return [Row(row.status, row.attempts, row.last_error, row.is_due(time.monotonic())) for row in store.rows]
    return [
        Row(Status(row.status), row.attempts, row.last_error, (row.claimed_until or row.available_at) <= timezone.now())
        for row in OutboxMessage.objects.order_by("id")
    ]


def row() -> Row:
    """Return the only message."""
    (only,) = rows()
    return only


def expire_leases() -> None:
    store = outbox_store()
    if isinstance(store, MemoryOutbox):
        for each in store.rows:
            each.claimed_until = 0
    else:
        OutboxMessage.objects.filter(status=Status.CLAIMED).update(claimed_until=timezone.now() - timedelta(hours=1))


def end_pauses() -> None:
    store = outbox_store()
    if isinstance(store, MemoryOutbox):
        for each in store.rows:
            each.available_at = 0
    else:
        OutboxMessage.objects.filter(status=Status.PENDING).update(available_at=timezone.now() - timedelta(hours=1))


def end_circuit_pauses() -> None:
    for name, circuit in circuit_breaker._circuits.items():
        circuit_breaker._circuits[name] = circuit._replace(open_until=0)
