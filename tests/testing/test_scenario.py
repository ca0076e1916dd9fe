from decimal import Decimal
from typing import Any

import pytest

from es_django.testing import given
from tests.domain import Annotated, Deposited, Ledger, LedgerOpened, Withdrawn

OPENED = LedgerOpened(owner="Ada")


def deposited(amount: int) -> Deposited:
    return Deposited(amount=Decimal(amount))


class TestThen:
    def test_expected_events_pass(self) -> None:
        scenario = given(Ledger, OPENED, deposited(5)).when(lambda ledger: ledger.withdraw(3))
        scenario.then(Withdrawn(amount=Decimal(3)))
        assert (scenario.aggregate.balance, scenario.aggregate.version) == (Decimal(2), 3)

    def test_a_wrong_expectation_fails(self) -> None:
        with pytest.raises(AssertionError, match=r"recorded \[.*\], expected \["):
            given(Ledger, OPENED).when(lambda ledger: ledger.deposit(3)).then(deposited(4))
        with pytest.raises(AssertionError, match="no error was raised"):
            given(Ledger, OPENED).when(lambda ledger: ledger.deposit(3)).then_raises(ValueError)
        with pytest.raises(AssertionError, match="the error says"):
            given(Ledger, OPENED).when(lambda ledger: ledger.withdraw(3)).then_raises(ValueError, "less")

    def test_a_state_change_without_an_event_fails(self) -> None:
        def deposit_and_note(ledger: Ledger) -> None:
            ledger.deposit(3)
            ledger.notes.append("as if it were noted")
            ledger.owner = "Eve"

        scenario = given(Ledger, OPENED).when(deposit_and_note)
        with pytest.raises(AssertionError, match="changed without an event, so a replay would lose it: notes, owner"):
            scenario.then(deposited(3))

    def test_events_do_not_share_lists_with_the_state(self) -> None:
        note = Annotated(note=[1])

        def lengthen(ledger: Ledger) -> None:
            ledger.annotate(list(ledger.notes[0]))
            ledger.notes[0].append(2)

        with pytest.raises(AssertionError, match="changed without an event"):
            given(Ledger, note).when(lengthen).then(Annotated(note=[1]))


class TestThenRaises:
    def test_an_expected_error_passes(self) -> None:
        given(Ledger, OPENED).when(lambda ledger: ledger.withdraw(3)).then_raises(
            ValueError, "the balance is too low"
        ).then()

    def test_an_unexpected_error_is_raised(self) -> None:
        refused = given(Ledger, OPENED).when(lambda ledger: ledger.withdraw(3))
        with pytest.raises(ValueError, match="too low"):
            refused.then()
        with pytest.raises(ValueError, match="too low"):
            refused.when(lambda ledger: ledger.deposit(1))
        with pytest.raises(ValueError, match="too low"):
            refused.then_raises(KeyError)

    def test_events_recorded_before_the_error_fail(self) -> None:
        def deposit_and_fail(ledger: Ledger) -> None:
            ledger.deposit(3)
            raise ValueError("too late")

        scenario = given(Ledger, OPENED).when(lambda ledger: ledger.deposit(1)).when(deposit_and_fail)
        with pytest.raises(AssertionError, match=r"recorded \[Deposited\(amount=Decimal\('3'\)\)\] before the error"):
            scenario.then_raises(ValueError, "too late")


class TestArguments:
    def test_an_async_command_is_rejected(self) -> None:
        async def deposit(ledger: Ledger) -> None: ...

        with pytest.raises(TypeError, match="must be a plain function"):
            given(Ledger, OPENED).when(deposit)

    @pytest.mark.parametrize("event", [[OPENED], LedgerOpened])
    def test_given_rejects_values_that_are_not_events(self, event: Any) -> None:
        with pytest.raises(TypeError, match=r"given\(Ledger, \.\.\.\) takes events one by one"):
            given(Ledger, event)
