"""Contenders that take turns in one run, so that their ratios hold on any machine; and a database to run them on."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from django.db import connection
from rich.console import Console
from rich.table import Table


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


def report(title: str, found: Mapping[str, float], ratios: Sequence[tuple[str, str, float]]) -> bool:
    """Prints what was found and each ratio of one contender to another; whether each is as high as it must be."""
    table = Table("", "each second", title=title)
    for name, rate in found.items():
        table.add_row(name, f"{rate:,.0f}")
    console = Console()
    console.print(table)
    good = True
    for name, floor, least in ratios:
        ratio = found[name] / found[floor]
        good = good and ratio >= least
        console.print(f"{name} / {floor}: {ratio:.2f} (at least {least})")
    return good
