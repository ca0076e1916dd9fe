from collections.abc import Callable
from decimal import Decimal

import pytest

from testproject.bank.aggregates import Account, InsufficientFunds, InvalidAmount
from testproject.bank.events import AccountOpened, MoneyDeposited, MoneyReceived, MoneySent, MoneyWithdrawn


@pytest.fixture
def account() -> Account:
    """Return an account with a balance of 100."""
    account = Account.open("acc-1", owner="Ada")
    account.deposit(Decimal(100))
    return account


OVERDRAFTS: list[Callable[[Account], None]] = [
    lambda account: account.withdraw(Decimal("100.01")),
    lambda account: account.send(Decimal("100.01"), receiver="acc-2"),
]


class TestAccount:
    def test_new_account_has_an_owner_and_no_money(self) -> None:
        account = Account.open("acc-1", owner="Ada")
        assert account.owner == "Ada"
        assert account.balance == Decimal(0)

    def test_each_command_records_its_event(self, account: Account) -> None:
        account.withdraw(Decimal(1))
        account.send(Decimal(2), receiver="acc-2")
        account.receive(Decimal(3), sender="acc-3")
        assert account.pending_events == [
            AccountOpened(owner="Ada"),
            MoneyDeposited(amount=Decimal(100)),
            MoneyWithdrawn(amount=Decimal(1)),
            MoneySent(amount=Decimal(2), receiver="acc-2"),
            MoneyReceived(amount=Decimal(3), sender="acc-3"),
        ]

    def test_balance_is_money_in_minus_money_out(self, account: Account) -> None:
        account.withdraw(Decimal("10.01"))
        account.send(Decimal(20), receiver="acc-2")
        account.receive(Decimal("0.01"), sender="acc-3")
        assert account.balance == Decimal("70.00")


class TestRules:
    def test_whole_balance_can_be_withdrawn(self, account: Account) -> None:
        account.withdraw(Decimal(100))
        assert account.balance == Decimal(0)

    @pytest.mark.parametrize("overdraw", OVERDRAFTS, ids=["withdraw", "send"])
    def test_overdraft_is_refused(self, account: Account, overdraw: Callable[[Account], None]) -> None:
        before = account.pending_events
        with pytest.raises(InsufficientFunds, match=r"acc-1 has a balance of 100, which is less than 100\.01"):
            overdraw(account)
        assert account.pending_events == before
        assert account.balance == Decimal(100)

    @pytest.mark.parametrize("amount", ["0", "-1", "0.001", "NaN", "Infinity"])
    def test_invalid_amounts_are_refused(self, account: Account, amount: str) -> None:
        before = account.pending_events
        changes: list[Callable[[Decimal], None]] = [
            account.deposit,
            account.withdraw,
            lambda value: account.send(value, receiver="acc-2"),
            lambda value: account.receive(value, sender="acc-2"),
        ]
        for change in changes:
            with pytest.raises(InvalidAmount):
                change(Decimal(amount))
        assert account.pending_events == before
