from decimal import Decimal
from typing import Any

import pytest

from es_django.testing import given
from tests.domain import Annotated, Deposited, Ledger, LedgerOpened, Withdrawn

OPENED = LedgerOpened(owner="Ada")


def deposited(amount: int) -> Deposited:
    return Deposited(amount=Decimal(amount))


def test_what_a_command_records_is_told() -> None:
    scenario = given(Ledger, OPENED, deposited(5)).when(lambda ledger: ledger.withdraw(3))
    scenario.then(Withdrawn(amount=Decimal(3)))
    assert (scenario.aggregate.balance, scenario.aggregate.version) == (Decimal(2), 3)


def test_what_a_command_refuses_is_told() -> None:
    given(Ledger, OPENED).when(lambda ledger: ledger.withdraw(3)).then_raises(ValueError, "more than there is").then()


def test_a_wrong_expectation_fails() -> None:
    with pytest.raises(AssertionError, match="recorded were"):
        given(Ledger, OPENED).when(lambda ledger: ledger.deposit(3)).then(deposited(4))
    with pytest.raises(AssertionError, match="no error was raised"):
        given(Ledger, OPENED).when(lambda ledger: ledger.deposit(3)).then_raises(ValueError)
    with pytest.raises(AssertionError, match="the error says"):
        given(Ledger, OPENED).when(lambda ledger: ledger.withdraw(3)).then_raises(ValueError, "less")


def test_an_error_that_nobody_expected_comes_through() -> None:
    refused = given(Ledger, OPENED).when(lambda ledger: ledger.withdraw(3))
    with pytest.raises(ValueError, match="more than"):
        refused.then()
    with pytest.raises(ValueError, match="more than"):
        refused.when(lambda ledger: ledger.deposit(1))
    with pytest.raises(ValueError, match="more than"):
        refused.then_raises(KeyError)


def test_what_was_recorded_before_the_error_is_told() -> None:
    def deposit_and_fail(ledger: Ledger) -> None:
        ledger.deposit(3)
        raise ValueError("too late")

    scenario = given(Ledger, OPENED).when(lambda ledger: ledger.deposit(1)).when(deposit_and_fail)
    with pytest.raises(AssertionError, match=r"recorded before the error were \[Deposited\(amount=Decimal\('3'\)\)\]"):
        scenario.then_raises(ValueError, "too late")


def test_a_change_that_no_event_tells_of_fails() -> None:
    def deposit_and_note(ledger: Ledger) -> None:
        ledger.deposit(3)
        ledger.notes.append("as if it were noted")
        ledger.owner = "Eve"

    scenario = given(Ledger, OPENED).when(deposit_and_note)
    with pytest.raises(AssertionError, match="changed without an event, so not as a replay would: notes, owner"):
        scenario.then(deposited(3))


def test_events_that_hold_lists_are_those_of_nobody_else() -> None:
    note = Annotated(note=[1])

    def lengthen(ledger: Ledger) -> None:
        ledger.annotate(list(ledger.notes[0]))
        ledger.notes[0].append(2)

    with pytest.raises(AssertionError, match="changed without an event"):
        given(Ledger, note).when(lengthen).then(Annotated(note=[1]))


def test_an_async_command_is_refused() -> None:
    async def deposit(ledger: Ledger) -> None: ...

    with pytest.raises(TypeError, match="must be a plain function"):
        given(Ledger, OPENED).when(deposit)


@pytest.mark.parametrize("event", [[OPENED], LedgerOpened])
def test_what_is_no_event_cannot_have_happened(event: Any) -> None:
    with pytest.raises(TypeError, match=r"given\(Ledger, \.\.\.\) takes events one by one"):
        given(Ledger, event)
