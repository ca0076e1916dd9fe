from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models import BaseConstraint, Index, Model

from es_django.store.append_only import create_trigger
from tests.publishers import Recorder


@pytest.fixture(autouse=True)
def _one_destination(recorder: type[Recorder]) -> None:
    """Replace the destinations of the sample project."""


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture
def without() -> Iterator[Callable[[type[Model], str], None]]:
    """Return a function that drops a constraint or an index until the test ends."""
    dropped: list[tuple[type[Model], BaseConstraint | Index]] = []

    def drop(model: type[Model], name: str) -> None:
        (found,) = [each for each in (*model._meta.constraints, *model._meta.indexes) if each.name == name]
        with connection.schema_editor() as editor:
            if isinstance(found, Index):
                editor.remove_index(model, found)
            else:
                kept = [each for each in model._meta.constraints if each is not found]
                # SQLite creates the table anew from the constraints of the model
                with patch.object(model._meta, "constraints", kept):
                    editor.remove_constraint(model, found)
        dropped.append((model, found))

    yield drop
    call_command("flush", interactive=False, verbosity=0)
    for model, found in dropped:
        with connection.schema_editor() as editor:
            if isinstance(found, Index):
                editor.add_index(model, found)
            else:
                editor.add_constraint(model, found)
    if dropped:
        create_trigger(connection)


@contextmanager
def _unchecked() -> Iterator[None]:
    """Disable foreign keys, checks and triggers within the block."""
    on, off = {
        "postgresql": (["SET session_replication_role = replica"], ["SET session_replication_role = DEFAULT"]),
        "sqlite": (
            ["PRAGMA foreign_keys = OFF", "PRAGMA ignore_check_constraints = ON"],
            ["PRAGMA foreign_keys = ON", "PRAGMA ignore_check_constraints = OFF"],
        ),
    }[connection.vendor]
    execute(*on)
    try:
        yield
    finally:
        execute(*off)


unchecked = _unchecked
