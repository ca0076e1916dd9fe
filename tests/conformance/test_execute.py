"""`execute` loads, decides and saves, and repeats this after a conflict. A command with an id takes effect once."""

import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction

from es_django import (
    ANY,
    ConcurrencyError,
    Repository,
    StorageError,
    event_store,
)
from es_django.errors import DuplicateEvent
from es_django.store.backends import store_for
from tests.domain import Deposited, Ledger
from tests.threads import threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("backend")]

ledgers = Repository(Ledger)


class TestConflicts:
    def test_conflict_is_retried(self) -> None:
        ledgers.save(Ledger.open("l-1"))
        tries = []

        def decide(ledger: Ledger) -> None:
            tries.append(ledger.version)
            if len(tries) < 3:
                event_store.append(ledger.stream, [Deposited(amount=Decimal(1))], expected=ANY)
            ledger.deposit(10)

        assert ledgers.execute("l-1", decide).balance == 12
        assert tries == [1, 2, 3]

    def test_pauses_between_attempts_are_random_and_grow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ledgers.save(Ledger.open("l-1"))
        longest: list[tuple[float, float]] = []
        pauses: list[float] = []

        def choose(least: float, most: float) -> float:
            longest.append((least, most))
            return most / 2

        def decide(ledger: Ledger) -> None:
            event_store.append(ledger.stream, [Deposited(amount=Decimal(1))], expected=ANY)
            ledger.deposit(10)

        monkeypatch.setattr("es_django.repository.random.uniform", choose)
        monkeypatch.setattr("es_django.repository.time.sleep", pauses.append)
        with pytest.raises(ConcurrencyError):
            ledgers.execute("l-1", decide)
        assert longest == [(0, 0.02), (0, 0.04), (0, 0.08), (0, 0.16)], "five attempts, four pauses"
        with pytest.raises(ConcurrencyError):
            ledgers.execute("l-1", decide, attempts=12)
        assert longest[-1] == (0, 1.0)
        assert pauses == [most / 2 for _, most in longest]

    def test_last_conflict_is_raised(self) -> None:
        ledgers.save(Ledger.open("l-1"))

        def decide(ledger: Ledger) -> None:
            event_store.append(ledger.stream, [Deposited(amount=Decimal(1))], expected=ANY)
            ledger.deposit(10)

        with pytest.raises(ConcurrencyError) as caught:
            ledgers.execute("l-1", decide, attempts=3)
        assert caught.value.expected == 3
        with pytest.raises(ConcurrencyError) as caught, event_store.transaction():
            ledgers.execute("l-1", decide, attempts=3)
        assert caught.value.expected == 4, "inside a transaction there is one attempt"

    @pytest.mark.parametrize(
        ("sqlstate", "tries"),
        [
            pytest.param("40001", 3, id="serialization failure"),
            pytest.param("40P01", 3, id="deadlock"),
            pytest.param("08006", 1, id="connection lost, so that the event may have been stored"),
            pytest.param("23514", 1, id="constraint"),
        ],
    )
    def test_only_conflicts_are_retried(self, sqlstate: str, tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
        ledgers.save(Ledger.open("l-1"))
        decided: list[int] = []

        def fail(*args: object, **kwargs: object) -> None:
            raise StorageError("append", True) from DriverError(sqlstate)

        def decide(ledger: Ledger) -> None:
            decided.append(ledger.version)
            ledger.deposit(1)

        monkeypatch.setattr(type(store_for()), "append_all", fail)
        with pytest.raises(StorageError):
            ledgers.execute("l-1", decide, attempts=3)
        assert decided == [1] * tries

    @pytest.mark.requires_postgresql
    @pytest.mark.database_alone
    @pytest.mark.parametrize("attempts", [1, 2])
    def test_execution_that_lost_a_race_under_repeatable_read_decides_again(self, attempts: int) -> None:
        ledgers.save(Ledger.open("l-1"))
        appended, decided = threading.Event(), list[int]()

        def come_first() -> None:
            with transaction.atomic():
                event_store.append(Ledger("l-1").stream, [Deposited(amount=Decimal(1))], expected=1)
                appended.set()
                wait_for_a_waiter()

        with threads(1) as submit, connection.cursor() as cursor:

            def decide(ledger: Ledger) -> None:
                decided.append(ledger.version)
                if ledger.version == 1:
                    submit(come_first)
                    assert appended.wait(30)
                ledger.deposit(10)

            cursor.execute("SET default_transaction_isolation TO 'repeatable read'")
            try:
                if attempts == 1:
                    with pytest.raises(StorageError) as caught:
                        ledgers.execute("l-1", decide, attempts=attempts)
                    assert caught.value.retryable
                else:
                    assert ledgers.execute("l-1", decide, attempts=attempts).balance == 11
            finally:
                cursor.execute("RESET default_transaction_isolation")
        assert decided == [1, 2][:attempts]
        assert ledgers.get("l-1").version == 1 + attempts


class AsyncDecision:
    async def __call__(self, ledger: Ledger) -> None:
        ledger.deposit(1)


class Later:
    """An awaitable that is not a coroutine."""

    def __init__(self, ledger: Ledger) -> None:
        ledger.deposit(1)

    def __await__(self) -> Iterator[None]:
        yield


class TestArguments:
    @pytest.mark.parametrize("attempts", [0, -1, "5", 1.5, True])
    def test_invalid_attempts_are_rejected(self, attempts: Any) -> None:
        with pytest.raises(ValueError, match="attempts must be an integer of at least 1"):
            ledgers.execute("l-1", lambda ledger: None, attempts=attempts)

    @pytest.mark.parametrize("command_id", ["", " \n"])
    def test_blank_command_ids_are_rejected(self, command_id: str) -> None:
        ledgers.save(Ledger.open("l-1"))
        with pytest.raises(ValueError, match="command_id must not be blank"):
            ledgers.execute("l-1", lambda ledger: ledger.deposit(1), command_id=command_id)
        assert ledgers.get("l-1").version == 1

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize(
        "decide", [AsyncDecision().__call__, AsyncDecision(), lambda ledger: AsyncDecision()(ledger), Later]
    )
    def test_async_decisions_are_rejected(self, decide: Callable[[Ledger], object]) -> None:
        ledgers.save(Ledger.open("l-1"))
        with pytest.raises(TypeError, match="plain function"):
            ledgers.execute("l-1", decide)
        assert ledgers.get("l-1").version == 1


class TestCommandIds:
    def test_command_takes_effect_once(self) -> None:
        ledgers.save(Ledger.open("l-1"))
        ledgers.save(Ledger.open("l-2"))

        def deposit_twice(ledger: Ledger) -> None:
            ledger.deposit(5)
            ledger.deposit(7)

        for _ in range(2):
            assert ledgers.execute("l-1", deposit_twice, command_id="c-1").balance == 12
        ledgers.execute("l-1", lambda ledger: ledger.withdraw(2))
        assert ledgers.execute("l-1", deposit_twice, command_id="c-1").balance == 10
        assert ledgers.execute("l-1", deposit_twice, command_id="c-2").balance == 22
        assert ledgers.execute("l-2", deposit_twice, command_id="c-1").balance == 12
        for _ in range(2):
            assert ledgers.execute("l-2", lambda ledger: ledger.deposit(1), command_id="c-3").balance == 13

    def test_second_execution_in_a_race_of_one_command_gets_the_stored_events(self) -> None:
        ledgers.save(Ledger.open("l-1"))
        executions = iter([1, 2])

        def decide(ledger: Ledger) -> None:
            if next(executions) == 1:
                # another execution of the same command saves first
                ledgers.execute("l-1", decide, command_id="c-1")
            ledger.deposit(20)

        assert ledgers.execute("l-1", decide, command_id="c-1").balance == ledgers.get("l-1").balance == 20

    def test_fault_a6_second_execution_that_recorded_more_events_is_an_error(self) -> None:
        ledgers.save(Ledger.open("l-1"))

        def decide(ledger: Ledger) -> None:
            ledgers.execute("l-1", lambda ledger: ledger.deposit(20), command_id="c-1")
            ledger.deposit(1)
            ledger.deposit(2)

        with pytest.raises(DuplicateEvent):
            ledgers.execute("l-1", decide, command_id="c-1")
        assert ledgers.get("l-1").balance == 20
        assert ledgers.get("l-1").version == 2

    def test_duplicate_event_of_another_command_is_raised(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ledgers.save(Ledger.open("l-1"))

        def fail(*args: object, **kwargs: object) -> None:
            raise DuplicateEvent([uuid4()])

        monkeypatch.setattr(type(store_for()), "append_all", fail)
        for command_id in (None, "c-1"):
            with pytest.raises(DuplicateEvent):
                ledgers.execute("l-1", lambda ledger: ledger.deposit(1), command_id=command_id)


def wait_for_a_waiter() -> None:
    deadline = time.monotonic() + 30
    with connection.cursor() as cursor:
        while True:
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
            )
            if cursor.fetchone() == (1,):
                return
            assert time.monotonic() < deadline, "no session waited for a lock"
            time.sleep(0.005)


class DriverError(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate
