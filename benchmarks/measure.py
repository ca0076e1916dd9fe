"""Contenders that take turns in one run, so that their ratios hold on any machine; and a database to run them on."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from django.db import connection


@contextmanager
def fresh_database() -> Iterator[None]:
    """A database of its own on the server of DATABASE_URL, with all tables and no rows."""
    if connection.vendor != "postgresql":
        sys.exit("This measures PostgreSQL: name one in DATABASE_URL.")
    before = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(before, verbosity=0)


def rates(
    contenders: Mapping[str, Callable[[], int]], rounds: int, *, prepare: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """What each contender does in a second, its median; in each round all of them run, in turn, after `prepare`."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            prepare()
            started = time.perf_counter()
            done = run()
            found[name].append(done / (time.perf_counter() - started))
    return {name: statistics.median(rates) for name, rates in found.items()}
