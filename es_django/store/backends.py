"""Choose the event store of a database, by the vendor of the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from es_django import conf

if TYPE_CHECKING:
    from es_django.store.base import EventStore


def store_for(using: str | None = None) -> "EventStore":
    """Return the event store in the database `using`, by default ES_DJANGO["DATABASE"].

    Raise `ImproperlyConfigured` unless the database is PostgreSQL or SQLite.
    """
    return _replacements[-1] if _replacements else _store(using or conf.settings().database)


@contextmanager
def replaced_store(store: "EventStore") -> Iterator[None]:
    """Make `store` the event store of every database within the block, for the whole process."""
    _replacements.append(store)
    try:
        yield
    finally:
        _replacements.remove(store)


_replacements: "list[EventStore]" = []


@cache
def _store(using: str) -> "EventStore":
    vendor = connections[using].vendor
    if vendor == "postgresql":
        from es_django.store.postgresql.store import PostgresqlEventStore  # needs psycopg

        return PostgresqlEventStore(using)
    if vendor == "sqlite":
        from es_django.store.sqlite.store import SqliteEventStore

        return SqliteEventStore(using)
    raise ImproperlyConfigured(f"es_django stores events in PostgreSQL or SQLite, but database {using!r} is {vendor}")


class _DefaultStore:
    """A proxy that looks up the store on each use, because tests may override the setting."""

    def __getattr__(self, name: str) -> Any:
        return getattr(store_for(), name)


event_store: "EventStore" = cast("EventStore", _DefaultStore())
