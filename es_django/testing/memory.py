"""Run code that saves and loads aggregates without a database."""

from collections.abc import Iterator
from contextlib import contextmanager

from es_django.store.backends import replaced_store
from es_django.store.memory import MemoryEventStore


@contextmanager
def in_memory() -> Iterator[MemoryEventStore]:
    """Make every repository and `event_store` use a new store in memory, which the block receives.

    `outbox_messages` returns the messages that were sent. Inline projections run, and still need a database if they
    write to one.
    """
    store = MemoryEventStore()
    with replaced_store(store):
        yield store
