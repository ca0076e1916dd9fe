"""System checks of the PostgreSQL database itself: `manage.py check --database default` and `migrate` run them."""

from collections.abc import Collection
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections
from django.utils.connection import ConnectionDoesNotExist

from es_django import conf
from es_django.core.errors import EsDjangoError
from es_django.store.append_only import TABLE, trigger_problem
from es_django.store.backends import store_for


@register(Tags.database)
def check_order(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    from es_django.store.database import DatabaseEventStore  # a program that only starts does not need it

    try:
        database = conf.settings().database
        store = store_for(database)
    except (ImproperlyConfigured, ConnectionDoesNotExist):
        return []
    if database not in (databases or ()) or not isinstance(store, DatabaseEventStore):
        return []
    try:
        problems = store.order_problems()
    except EsDjangoError:
        return []  # before the first migration
    return [
        Error(
            f"Events of the database {database!r} could be skipped: {problem}.",
            hint="Until then, reading the log raises LogOutOfOrder. Afterwards, run manage.py es_verify.",
            id="es_django.E040",
        )
        for problem in problems
    ]


@register(Tags.database)
def check_append_only(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    try:
        database = conf.settings().database
    except ImproperlyConfigured:
        return []
    if database not in (databases or ()) or connections[database].vendor not in ("postgresql", "sqlite"):
        return []
    try:
        with connections[database].cursor() as cursor:
            if TABLE not in connections[database].introspection.table_names(cursor):
                return []  # before the first migration
        problem = trigger_problem(connections[database])
    except DatabaseError:
        return []
    if not problem:
        return []
    return [Warning(f"{problem}.", hint="Run manage.py migrate, which restores it.", id="es_django.W044")]


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
