"""Empty the models of a projection, without a change to any row that is not the projection's.

Django's `QuerySet.delete` collects: it sets foreign keys of other models to NULL or a default, follows generic
relations, and stops at PROTECT. So the rows are deleted by plain statements, the referring tables first. These send no
signals. Whatever could still reach other rows is refused before anything is deleted.
"""

import json
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from django.db import connections
from django.db.models import Model
from django.db.models.fields.reverse_related import ForeignObjectRel

_OTHER_KEYS = {
    "postgresql": """
        SELECT conrelid::regclass::text, conname FROM pg_constraint
         WHERE contype = 'f' AND conparentid = 0
           AND confrelid = ANY (CAST(%s AS regclass[])) AND conrelid <> ALL (CAST(%s AS regclass[]))
         ORDER BY 1, 2
    """,
    "sqlite": """
        SELECT other.name, key."from" FROM sqlite_master AS other, pragma_foreign_key_list(other.name) AS key
         WHERE other.type = 'table' AND lower(key."table") IN (SELECT lower(value) FROM json_each(%s))
           AND lower(other.name) NOT IN (SELECT lower(value) FROM json_each(%s))
         ORDER BY 1, 2
    """,
}

# Bit 3 of tgtype stands for DELETE. The triggers of foreign keys are internal.
_TRIGGERS = {
    "postgresql": r"""
        SELECT tgrelid::regclass::text, tgname FROM pg_trigger
         WHERE tgrelid = ANY (CAST(%s AS regclass[])) AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 8 > 0
         ORDER BY 1, 2
    """,
    "sqlite": r"""
        SELECT tbl_name, name FROM sqlite_master
         WHERE type = 'trigger' AND lower(tbl_name) IN (SELECT lower(value) FROM json_each(%s))
           AND sql REGEXP '(?i)\bdelete\s+on\b'
         ORDER BY 1, 2
    """,
}


def blocking_foreign_keys(owned: Sequence[type[Model]]) -> list[str]:
    """Return the declared foreign keys that tie the `owned` models to rows of other models.

    These are the foreign keys of other models that the database enforces, whatever their `on_delete`, and the link from
    an owned model to a parent that is not owned.
    """
    models = _concrete(owned)
    return sorted({str(field) for model in models for field in _ties(model, models)})


def obstacles(owned: Sequence[type[Model]], using: str) -> list[str]:
    """Return each reason why emptying the owned models would change or need rows that are not theirs.

    Besides the declared foreign keys, these are foreign keys and DELETE triggers that only the database knows.
    """
    if declared := blocking_foreign_keys(owned):
        return [f"foreign keys tie its models to rows of other models: {', '.join(declared)}"]
    connection = connections[using]
    tables = tables_of(owned)
    if connection.vendor == "postgresql":
        given = "{" + ",".join(json.dumps(connection.ops.quote_name(table)) for table in tables) + "}"
    else:
        given = json.dumps(tables)
    found = []
    with connection.cursor() as cursor:
        cursor.execute(_OTHER_KEYS[connection.vendor], [given, given])
        if keys := cursor.fetchall():
            found.append(f"foreign keys of other tables refer to its rows: {_listed(keys)}")
        cursor.execute(_TRIGGERS[connection.vendor], [given])
        if triggers := cursor.fetchall():
            found.append(f"triggers run when its rows are deleted, disable them first: {_listed(triggers)}")
    return found


def empty(owned: Sequence[type[Model]], using: str) -> None:
    """Delete all rows of the owned models, in the caller's transaction. Call this only without `obstacles`."""
    connection = connections[using]
    with connection.cursor() as cursor:
        for table in tables_of(owned):
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")  # noqa: S608  # the table of a model


def tables_of(owned: Sequence[type[Model]]) -> list[str]:
    """Return the tables of the owned models and of their many-to-many fields, each after the tables that refer to it.

    Tables that refer to each other have no such order. Their foreign keys must be deferrable, as Django's are.
    """
    models = _concrete(owned)
    fields: list[Any] = [field for model in models for field in model._meta.local_many_to_many]
    through = [field.remote_field.through for field in fields]
    models += [each for each in through if each._meta.auto_created and each not in models]
    referring: dict[str, set[str]] = {model._meta.db_table: set() for model in models}
    for model in models:
        for field in model._meta.local_fields:
            related = field.related_model
            target = _concrete_model(related)._meta.db_table if isinstance(related, type) else ""
            if target in referring and target != model._meta.db_table:
                referring[target].add(model._meta.db_table)
    try:
        return list(TopologicalSorter(referring).static_order())
    except CycleError:
        return list(referring)


def _concrete(owned: Sequence[type[Model]]) -> list[type[Model]]:
    return list(dict.fromkeys(_concrete_model(model) for model in owned))


def _concrete_model(model: type[Model]) -> type[Model]:
    return model._meta.concrete_model or model


def _ties(model: type[Model], owned: Sequence[type[Model]]) -> Iterator[Any]:
    for parent, link in model._meta.parents.items():
        if link is not None and _concrete_model(parent) not in owned:
            yield link
    for relation in model._meta.get_fields(include_hidden=True):
        if isinstance(relation, ForeignObjectRel) and getattr(relation.field, "db_constraint", False):
            source: Any = relation.related_model
            # The rows of a many-to-many table belong to the model that declares the ManyToManyField.
            if _concrete_model(source._meta.auto_created or source) not in owned:
                yield relation.field


def _listed(rows: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{table}.{name}" for table, name in rows)
