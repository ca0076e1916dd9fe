"""Exactly one of several writers at the same version succeeds."""

from collections import Counter
from collections.abc import Callable
from multiprocessing.synchronize import Barrier as ProcessBarrier
from threading import Barrier
from typing import Any

import pytest

from es_django import ConcurrencyError, Repository
from tests.domain import Ledger
from tests.processes import run_processes
from tests.threads import threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("backend")]

WRITERS = 8
ROUNDS = 50

ledgers = Repository(Ledger)


def save_at_the_same_version(barrier: Barrier | ProcessBarrier, start: int, events: int) -> list[str]:
    outcomes = []
    for number in range(ROUNDS):
        ledger = ledgers.get(f"l-{number}") if start else Ledger(f"l-{number}")
        for amount in range(events):
            ledger.deposit(amount + 1)
        barrier.wait()
        try:
            ledgers.save(ledger)
            outcomes.append("saved")
        except ConcurrencyError:
            outcomes.append("refused")
    return outcomes


def in_processes(start: int, events: int) -> list[list[str]]:
    return run_processes(save_at_the_same_version, [(start, events)] * WRITERS, timeout=120)


def in_threads(start: int, events: int) -> list[list[str]]:
    barrier = Barrier(WRITERS, timeout=60)
    with threads(WRITERS) as submit:
        futures = [submit(save_at_the_same_version, barrier, start, events) for _ in range(WRITERS)]
    return [future.result() for future in futures]


def race(run: Callable[[int, int], list[list[str]]], start: int, events: int) -> None:
    if start:
        for number in range(ROUNDS):
            ledgers.save(Ledger.open(f"l-{number}"))
    outcomes = run(start, events)
    for number in range(ROUNDS):
        assert Counter(each[number] for each in outcomes) == {"saved": 1, "refused": WRITERS - 1}
        versions = [recorded.version for recorded in ledgers.history(f"l-{number}")]
        assert versions == list(range(1, start + events + 1))


def deposit_often(barrier: Any, times: int) -> None:
    barrier.wait()
    for _ in range(times):
        ledgers.execute("l-1", lambda ledger: ledger.deposit(1), attempts=1000)


class TestOneWinner:
    @pytest.mark.parametrize(("start", "events"), [(1, 1), (0, 1), (1, 3)])
    def test_exactly_one_of_several_threads_appends(self, start: int, events: int) -> None:
        race(in_threads, start, events)

    @pytest.mark.database_alone
    @pytest.mark.parametrize(("start", "events"), [(1, 1), (0, 1), (1, 3)])
    @pytest.mark.slow
    def test_exactly_one_of_several_processes_appends(self, start: int, events: int) -> None:
        race(in_processes, start, events)


class TestExecute:
    @pytest.mark.database_alone
    @pytest.mark.slow
    def test_no_deposit_is_lost_when_processes_execute_concurrently(self) -> None:
        ledgers.save(Ledger.open("l-1"))
        run_processes(deposit_often, [(50,)] * WRITERS, timeout=120)
        assert ledgers.get("l-1").balance == 400
        assert ledgers.get("l-1").version == 401
