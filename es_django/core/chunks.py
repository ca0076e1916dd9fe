"""Split long lists, so that no statement grows with its input.

PostgreSQL accepts 65,535 parameters in a statement, and SQLite 32,766, or 999 before SQLite 3.32.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

T = TypeVar("T")

CHUNK: Final = 500


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield the items in lists of at most `CHUNK`. Yield nothing if there are no items."""
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
