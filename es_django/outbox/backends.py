"""Find the outbox that is in use."""

from functools import cache

from es_django import conf
from es_django.outbox.database import DatabaseOutbox
from es_django.outbox.memory import memory_outbox
from es_django.outbox.port import OutboxStore
from es_django.store.backends import store_for
from es_django.store.memory import MemoryEventStore


def outbox_store() -> OutboxStore:
    """Return the outbox in ES_DJANGO["DATABASE"], or the outbox in memory if the event store in memory is in use."""
    store = store_for()
    if isinstance(store, MemoryEventStore):
        return memory_outbox(store)
    return _database_outbox(conf.settings().database)


@cache
def _database_outbox(using: str) -> OutboxStore:
    return DatabaseOutbox(using)
