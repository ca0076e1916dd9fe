"""The events of an account. They are stored for ever; balances, statements and messages derive from them."""

from decimal import Decimal

from es_django import Event


class AccountOpened(Event):
    owner: str

    class Meta:
        name = "bank.account_opened"


class MoneyDeposited(Event):
    amount: Decimal

    class Meta:
        name = "bank.money_deposited"


class MoneyWithdrawn(Event):
    amount: Decimal

    class Meta:
        name = "bank.money_withdrawn"


class MoneySent(Event):
    """The sender's half of a transfer."""

    amount: Decimal
    receiver: str

    class Meta:
        name = "bank.money_sent"


class MoneyReceived(Event):
    """The receiver's half of a transfer."""

    amount: Decimal
    sender: str

    class Meta:
        name = "bank.money_received"


MoneyIn = MoneyDeposited | MoneyReceived
MoneyOut = MoneyWithdrawn | MoneySent
