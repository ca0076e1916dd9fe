"""Runs functions in threads, each with a database connection of its own that is closed in the end."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from django.db import connection, connections


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


def wait_until_somebody_waits_for_a_lock() -> None:
    """Of PostgreSQL, in this database."""
    deadline = time.monotonic() + 30
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT pg_stat_clear_snapshot()")  # a transaction keeps what it has seen
            cursor.execute(
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.rowcount:
                return
            assert time.monotonic() < deadline
            time.sleep(0.01)
