"""System checks of the PostgreSQL database itself: `manage.py check --database default` and `migrate` run them."""

from collections.abc import Collection
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections

from es_django import conf


@register(Tags.database)
def check_pooler(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    try:
        database = conf.settings().database
    except ImproperlyConfigured:
        return []
    if database not in (databases or ()) or connections[database].vendor != "postgresql":
        return []
    from es_django.store.postgresql.poolers import is_direct

    try:
        connections[database].ensure_connection()
        driver = connections[database].connection
        if driver.prepare_threshold is None or is_direct(driver):
            return []
    except DatabaseError:
        return []
    return [
        Warning(
            f'The database {database!r} is behind a pooler, and its "OPTIONS" set psycopg\'s prepare_threshold: unless '
            "the pooler tracks prepared statements, a process may execute a statement of another process.",
            hint='Remove prepare_threshold from "OPTIONS". With PgBouncer 1.21 or newer, you can set '
            "max_prepared_statements instead, and silence this warning.",
            id="es_django.W041",
        )
    ]
