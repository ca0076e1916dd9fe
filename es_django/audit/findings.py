"""What an audit finds, and how it reads: in pages by primary key, so that its memory does not grow with the tables."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from django.db.models import QuerySet

PAGE = 1000


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it must be: its `kind`, and a sentence that says which and where."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class Watch(msgspec.Struct):
    """What a step of an audit knows: the database, whom to tell how far it is, and what has been counted."""

    using: str
    at: Callable[[int], None]
    counts: Counter[str]


def in_pages(rows: QuerySet[Any], *fields: str) -> Iterator[list[tuple[Any, ...]]]:
    """The primary keys and `fields` of the rows, page by page."""
    ordered = rows.order_by("pk").values_list("pk", *fields)
    page = list(ordered[:PAGE])
    while page:
        yield page
        page = list(ordered.filter(pk__gt=page[-1][0])[:PAGE])
