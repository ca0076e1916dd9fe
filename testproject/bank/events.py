"""What can happen to an account. These are facts: they are stored for ever, and everything else follows from them."""

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
    """The one half of a transfer, in the sender's stream."""

    amount: Decimal
    receiver: str

    class Meta:
        name = "bank.money_sent"


class MoneyReceived(Event):
    """The other half of a transfer, in the receiver's stream."""

    amount: Decimal
    sender: str

    class Meta:
        name = "bank.money_received"


MoneyIn = MoneyDeposited | MoneyReceived
MoneyOut = MoneyWithdrawn | MoneySent
