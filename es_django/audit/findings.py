"""The findings of an audit, and how its steps read tables: page by page, so that memory does not grow with them."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from django.db import connections
from django.db.models import QuerySet

PAGE = 1000
BEFORE_ALL = -(2**63)


class Finding(msgspec.Struct, frozen=True):
    """One violation: its `kind`, and a sentence with the place and the fact."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class AuditContext(msgspec.Struct):
    """The context of a step of an audit."""

    using: str
    """The alias of the database."""
    report: Callable[[int], None]
    """Report progress: the last primary key that was read."""
    counts: Counter[str]
    """The number of rows that were checked, by kind."""


def in_pages(rows: QuerySet[Any], *fields: str) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the primary keys and `fields` of the rows, page by page."""
    ordered = rows.order_by("pk").values_list("pk", *fields)
    page = list(ordered[:PAGE])
    while page:
        yield page
        page = list(ordered.filter(pk__gt=page[-1][0])[:PAGE])


def sql_pages(using: str, statement: str, keys: int = 1) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of a statement, page by page.

    The first `keys` columns are its order. They are its parameters too: each page begins after the last row.
    """
    after: tuple[Any, ...] = (BEFORE_ALL,) * keys
    while True:
        with connections[using].cursor() as cursor:
            cursor.execute(statement, after)
            page = cursor.fetchall()
        if not page:
            return
        yield page
        after = page[-1][:keys]
