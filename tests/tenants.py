"""Give a database of the tests schemas that each have their own tables of es_django, as django-tenants does."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection
from django.db.migrations.executor import MigrationExecutor


@contextmanager
def schemas(*names: str) -> Iterator[None]:
    """Create the schemas with the tables of es_django in each, and drop them at the end."""
    try:
        for name in names:
            with connection.cursor() as cursor:
                cursor.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")
                cursor.execute(f"CREATE SCHEMA {name}")
            with in_schema(name):
                executor = MigrationExecutor(connection)
                executor.migrate([key for key in executor.loader.graph.leaf_nodes() if key[0] == "es_django"])
        yield
    finally:
        with connection.cursor() as cursor:
            for name in names:
                cursor.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@contextmanager
def in_schema(name: str) -> Iterator[None]:
    """Use the tables of a schema on this thread's connection within the block."""
    before = _set_search_path(name)
    try:
        yield
    finally:
        if connection.connection is not None and not connection.needs_rollback:
            _set_search_path(before)


def _set_search_path(path: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW search_path")
        before = str(cursor.fetchone()[0])
        cursor.execute("SELECT set_config('search_path', %s, false)", [path])
    return before
