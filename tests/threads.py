"""Runs functions in threads, each with a database connection of its own that is closed in the end."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from django.db import connections


@contextmanager
def threads(count: int) -> Iterator[Callable[..., Future[Any]]]:
    """Yields `submit(function, *args)`; the block ends when all that was submitted has ended."""

    def run(function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as executor:
        yield lambda function, *args: executor.submit(run, function, *args)
