"""Carry the schemas of one thread's connection over to another thread.

Several tenants may have tables of their own in one database, each in a schema of its own. Which tables a connection
uses depends on its `search_path`, and each thread has a connection of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections


def acts_on_cursors(connection: Any) -> bool:
    """Return whether the project's database backend does something when a cursor is opened.

    django-tenants only notes a switch of the tenant. It sets the `search_path` when the next cursor is opened.
    """
    modules: tuple[str, str] = connection.cursor.__module__, connection._cursor.__module__
    return not (modules[0].startswith("django.") and modules[1].startswith("django."))


def search_path(using: str) -> str | None:
    """Return the `search_path` of this thread's connection, or None on SQLite."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute("SHOW search_path")
        return str(cursor.fetchone()[0])


@contextmanager
def with_search_path(using: str, path: str | None) -> Iterator[None]:
    """Use `path` on this thread's connection within the block."""
    before = search_path(using)
    if before == path:
        yield
        return
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT set_config('search_path', %s, false)", [path])
    try:
        yield
    finally:
        # A pool may give the connection to others.
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT set_config('search_path', %s, false)", [before])
