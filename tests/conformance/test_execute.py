"""Load, decide, save; again after a conflict; and a command takes effect once."""

from decimal import Decimal

import pytest

from es_django import (
    ANY,
    ConcurrencyError,
    Repository,
    event_store,
)
from tests.domain import Deposited, Ledger

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("backend")]

ledgers = Repository(Ledger)


def test_execute_tries_again_after_a_conflict() -> None:
    ledgers.save(Ledger.open("l-1"))
    tries = []

    def decide(ledger: Ledger) -> None:
        tries.append(ledger.version)
        if len(tries) < 3:
            event_store.append(ledger.stream, [Deposited(amount=Decimal(1))], expected=ANY)
        ledger.deposit(10)

    assert ledgers.execute("l-1", decide).balance == 12
    assert tries == [1, 2, 3]


def test_execute_pauses_longer_each_time_and_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("attempts", [0, -1])
def test_execute_tries_at_least_once(attempts: int) -> None:
    with pytest.raises(ValueError, match="attempts is a number from 1 on"):
        ledgers.execute("l-1", lambda ledger: None, attempts=attempts)


def test_execute_raises_the_last_conflict() -> None:
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


def test_a_command_takes_effect_once() -> None:
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


def test_the_loser_of_a_race_of_one_command_gets_what_was_stored() -> None:
    ledgers.save(Ledger.open("l-1"))
    amounts = iter([10, 20])

    def decide(ledger: Ledger) -> None:
        amount = next(amounts)
        if amount == 10:
            # another execution of the same command, which comes first
            ledgers.execute("l-1", decide, command_id="c-1")
        ledger.deposit(amount)

    assert ledgers.execute("l-1", decide, command_id="c-1").balance == ledgers.get("l-1").balance == 20


def test_an_asynchronous_decision_is_refused() -> None:
    async def decide(ledger: Ledger) -> None:
        ledger.deposit(1)

    with pytest.raises(TypeError, match="plain function"):
        ledgers.execute("l-1", decide)
