"""The findings of an audit, and functions that read a table page by page, so that memory use stays constant."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from django.db import connections
from django.db.models import QuerySet

PAGE = 1000
BEFORE_ALL = -(2**63)


class Finding(msgspec.Struct, frozen=True):
    """One violation: its `kind`, and a `text` that says where and what it is."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class AuditContext(msgspec.Struct):
    """What each step of an audit receives."""

    using: str
    """The alias of the database."""
    report: Callable[[int], None]
    """Report progress. The argument is the last primary key that was read."""
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

    The statement must order its rows by its first `keys` columns, and return rows after its `keys` parameters. The
    parameters are the first columns of the last row of the previous page.
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
