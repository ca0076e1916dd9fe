"""The rules of the bank. Each command records an event or raises `Refused`. Services store the events."""

from decimal import Decimal

from es_django import Aggregate, applies
from testproject.bank.events import (
    AccountOpened,
    MoneyDeposited,
    MoneyIn,
    MoneyOut,
    MoneyReceived,
    MoneySent,
    MoneyWithdrawn,
)

CENT = Decimal("0.01")


class Refused(Exception):
    """The bank refuses a command."""


class InvalidAmount(Refused):
    def __init__(self, amount: Decimal) -> None:
        super().__init__(f"an amount must be more than 0 and in whole cents, not {amount}")


class InsufficientFunds(Refused):
    def __init__(self, account: str, balance: Decimal, amount: Decimal) -> None:
        super().__init__(f"account {account} has a balance of {balance}, which is less than {amount}")


class Account(Aggregate):
    owner: str = ""
    balance: Decimal = Decimal(0)

    class Meta:
        category = "account"

    @classmethod
    def open(cls, key: str, owner: str) -> "Account":
        account = cls(key)
        account.record(AccountOpened(owner=owner))
        return account

    def deposit(self, amount: Decimal) -> None:
        _check(amount)
        self.record(MoneyDeposited(amount=amount))

    def withdraw(self, amount: Decimal) -> None:
        self._check_funds(amount)
        self.record(MoneyWithdrawn(amount=amount))

    def send(self, amount: Decimal, receiver: str) -> None:
        self._check_funds(amount)
        self.record(MoneySent(amount=amount, receiver=receiver))

    def receive(self, amount: Decimal, sender: str) -> None:
        _check(amount)
        self.record(MoneyReceived(amount=amount, sender=sender))

    def _check_funds(self, amount: Decimal) -> None:
        _check(amount)
        if amount > self.balance:
            raise InsufficientFunds(self.key, self.balance, amount)

    @applies
    def _opened(self, event: AccountOpened) -> None:
        self.owner = event.owner

    @applies
    def _money_in(self, event: MoneyIn) -> None:
        self.balance += event.amount

    @applies
    def _money_out(self, event: MoneyOut) -> None:
        self.balance -= event.amount


def _check(amount: Decimal) -> None:
    if not amount.is_finite() or amount <= 0 or amount != amount.quantize(CENT):
        raise InvalidAmount(amount)
