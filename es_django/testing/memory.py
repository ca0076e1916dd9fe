"""Run code that saves and loads aggregates, without a database."""

from collections.abc import Iterator
from contextlib import contextmanager

from es_django.store.backends import replaced_store
from es_django.store.memory import MemoryEventStore


@contextmanager
def in_memory() -> Iterator[MemoryEventStore]:
    """Inside a `with` block, make every repository and `event_store` use a new store in memory. Yield this store.

    `outbox_messages` returns the messages that were sent. Inline projections run. If they write to a
    database, the test still needs the database.
    """
    store = MemoryEventStore()
    with replaced_store(store):
        yield store
