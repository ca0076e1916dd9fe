"""Run functions in threads. Each thread has its own database connection, which is closed when the function returns."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from django.db import connection, connections


@contextmanager
def threads(count: int) -> Iterator[Callable[..., Future[Any]]]:
    """Yield `submit(function, *args)`. The block ends when all submitted functions have returned."""

    def run(function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as executor:
        yield lambda function, *args: executor.submit(run, function, *args)


def wait_until_a_query_waits_for_a_lock() -> None:
    """Wait until a query in this PostgreSQL database waits for a lock."""
    deadline = time.monotonic() + 30
    with connection.cursor() as cursor:
        while True:
            # without this call, a transaction sees the same statistics each time
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.rowcount:
                return
            assert time.monotonic() < deadline
            time.sleep(0.01)
