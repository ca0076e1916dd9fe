"""Check the schema of the database: constraints, indexes, sequences, and the trigger that keeps events unchanged."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.apps import apps
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Count, ForeignKey, Max, Min, Model, UniqueConstraint

from es_django.audit.findings import AuditContext, Finding
from es_django.models import OutboxMessage, StoredEvent, Stream
from es_django.store.append_only import trigger_problem
from es_django.store.backends import store_for
from es_django.store.database import DatabaseEventStore
from es_django.store.postgresql.sequences import facts, problems

MOST_DUPLICATES = 1000
"""The number of duplicates of one constraint that are reported."""


def findings(context: AuditContext) -> Iterator[Finding]:
    connection = connections[context.using]
    for model in models():
        yield from _missing(connection, model)
    yield from _trigger(connection)
    if connection.vendor == "postgresql":
        yield from _sequences(connection)
    else:
        store = store_for(context.using)
        if isinstance(store, DatabaseEventStore):
            yield from (Finding("sequence", problem) for problem in store.order_problems())


def models() -> Iterable[type[Model]]:
    return apps.get_app_config("es_django").get_models()


def _missing(connection: BaseDatabaseWrapper, model: type[Model]) -> Iterator[Finding]:
    table = model._meta.db_table
    with connection.cursor() as cursor:
        present = connection.introspection.get_constraints(cursor, table)
        nullable = {
            column.name for column in connection.introspection.get_table_description(cursor, table) if column.null_ok
        }
    for constraint in model._meta.constraints:
        if constraint.name not in present:
            yield Finding("missing constraint", f"{table} has no {constraint.name}")
            if isinstance(constraint, UniqueConstraint):
                yield from _duplicates(connection, model, constraint.fields)
    for index in model._meta.indexes:
        if index.name not in present:
            yield Finding("missing index", f"{table} has no {index.name}")
    for field in model._meta.local_concrete_fields:
        if field.primary_key and not _has(present, "primary_key", field.column):
            yield Finding("missing constraint", f"{table} has no primary key")
        if isinstance(field, ForeignKey) and not _has(present, "foreign_key", field.column):
            yield Finding("missing constraint", f"{table}.{field.column} has no foreign key")
        if not (field.null or field.generated or field.primary_key) and field.column in nullable:
            yield Finding("missing constraint", f"{table}.{field.column} allows NULL")


def _has(present: Mapping[str, Mapping[str, Any]], kind: str, column: str | None) -> bool:
    return any(each[kind] and each["columns"] == [column] for each in present.values())


def _duplicates(connection: BaseDatabaseWrapper, model: type[Model], fields: Sequence[str]) -> Iterator[Finding]:
    """Find the duplicates that a missing unique constraint let in. Without its index, the database sorts the table."""
    if model is StoredEvent and "version" in fields:
        return  # the step "streams" finds these duplicates
    twice = model._base_manager.using(connection.alias).values(*fields)
    twice = twice.annotate(rows=Count("pk"), first=Min("pk"), last=Max("pk")).filter(rows__gt=1).order_by(*fields)
    # A server-side cursor would not work behind a pooler.
    for row in twice[:MOST_DUPLICATES]:
        value = ", ".join(f"{field} {row[field]}" for field in fields)
        ids = f"{model._meta.pk.name} {row['first']} to {row['last']}"
        yield Finding("duplicate", f"{model._meta.db_table} has {value} {row['rows']} times, from {ids}")


def _trigger(connection: BaseDatabaseWrapper) -> Iterator[Finding]:
    if problem := trigger_problem(connection):
        yield Finding("missing trigger", f"{problem}. Run manage.py migrate to restore it")


def _sequences(connection: BaseDatabaseWrapper) -> Iterator[Finding]:
    """Find sequences that are below the highest stored key, as after a copy of the rows, or draw numbers out of order.

    New rows would fail, or get positions that readers have already passed.
    """
    for model in (Stream, StoredEvent, OutboxMessage):
        table, column = model._meta.db_table, str(model._meta.pk.column)
        with connection.cursor() as cursor:
            cursor.execute(facts(table, column))
            for problem in problems(table, column, *cursor.fetchone()):
                yield Finding("sequence", problem)
