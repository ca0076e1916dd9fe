"""Run work and its floor in turns, so that their ratio is valid on any machine. Create a database for both."""

import gc
import itertools
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import msgspec
import psycopg
from django.db import OperationalError, connection, connections

Work = Callable[[], object]
"""The measured work, done once."""

Maker = Callable[[], Work]
"""Prepares the work, unmeasured, in the process that does the work."""

Contender = Callable[[], float]
"""Does the work and returns its rate per second."""

WARM_UP = 10


class Effort(msgspec.Struct, frozen=True):
    """How much to measure: the number of rounds, and the divisor that `of` applies to the repetitions of a round."""

    rounds: int
    share: int

    def of(self, times: int) -> int:
        return max(1, times // self.share)


FULL = Effort(rounds=5, share=1)
QUICK = Effort(rounds=1, share=50)


class Title(msgspec.Struct, frozen=True):
    """The work, its unit, and its floor or peer."""

    part: str
    work: str
    unit: str
    beside: str = "bare psycopg"


class Figure(msgspec.Struct, frozen=True):
    """The rate of the work, and the rate of its floor or peer."""

    title: Title
    rate: float
    floor: float
    least: float
    """The target ratio."""

    @property
    def ratio(self) -> float:
        return self.rate / self.floor

    @property
    def holds(self) -> bool:
        return self.ratio >= self.least


def grouped(figures: Iterable[Figure], heading: Callable[[Title], str]) -> dict[str, list[Figure]]:
    groups: dict[str, list[Figure]] = {}
    for figure in figures:
        groups.setdefault(heading(figure.title), []).append(figure)
    return groups


def compare(title: Title, ours: Contender, floor: Contender, least: float, effort: Effort) -> Figure:
    found = medians({"ours": ours, "floor": floor}, effort)
    return Figure(title, found["ours"], found["floor"], least)


def medians(contenders: Mapping[str, Contender], effort: Effort) -> dict[str, float]:
    """Return the median rate of each contender. In each round, all contenders run in turn."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(effort.rounds):
        for name, run in contenders.items():
            found[name].append(run())
    return {name: statistics.median(rates) for name, rates in found.items()}


def alone(make: Maker, times: int, *, each: int = 1, warm_up: int = WARM_UP) -> Contender:
    """Do the work `times` times in this process. Each time counts as `each` units."""

    def run() -> float:
        # An old connection may keep plans made for small tables, so each run opens a new connection.
        connections.close_all()
        work = make()
        for _ in range(warm_up):
            work()
        gc.collect()
        started = time.perf_counter()
        for _ in range(times):
            work()
        return times * each / (time.perf_counter() - started)

    return run


def in_processes(make: Maker, times: int, processes: int) -> Contender:
    """Do the work `times` times in each of several processes at once."""

    def run() -> float:
        connections.close_all()
        context = multiprocessing.get_context("fork")
        line = context.Barrier(processes + 1)

        def take_part() -> None:
            try:
                work = make()
                for _ in range(WARM_UP):
                    work()
                gc.collect()
                line.wait()
                for _ in range(times):
                    work()
                line.wait()
            except BaseException:
                line.abort()
                raise

        workers = [context.Process(target=take_part) for _ in range(processes)]
        for worker in workers:
            worker.start()
        line.wait()
        started = time.perf_counter()
        line.wait()
        taken = time.perf_counter() - started
        for worker in workers:
            worker.join()
        return times * processes / taken

    return run


_numbers = itertools.count()


def new_key() -> str:
    """Return an unused stream key."""
    return f"{os.getpid()}-{next(_numbers)}"


def bare_connection() -> psycopg.Connection:
    """A connection of psycopg that prepares every statement on its first use."""
    asked_for = connection.get_connection_params()
    named = {name: asked_for[name] for name in ("dbname", "user", "password", "host", "port") if name in asked_for}
    return psycopg.connect(**named, autocommit=True, prepare_threshold=0)


@contextmanager
def fresh_database() -> Iterator[None]:
    """Create a database on the server of DATABASE_URL, with empty tables."""
    if connection.vendor != "postgresql":
        sys.exit("The benchmarks need PostgreSQL: set DATABASE_URL, or run `make bench`.")
    try:
        connection.ensure_connection()
    except OperationalError as error:
        sys.exit(f"PostgreSQL does not answer at DATABASE_URL: {error}")
    before = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(before, verbosity=0)
