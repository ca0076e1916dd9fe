"""The messages of the bank: one type of message for each movement of money.

Other systems rely on the shape of the message. The events are internal to the bank and may change.
"""

from decimal import Decimal

from es_django import Message, StagedEvent, publishes
from testproject.bank.events import MoneyDeposited, MoneyIn, MoneyOut, MoneyReceived, MoneySent, MoneyWithdrawn

MONEY_MOVED = "bank.money_moved"


@publishes(MoneyDeposited, MoneyReceived, destination="ledger")
def money_in(staged: StagedEvent[MoneyIn]) -> Message:
    return _money_moved(staged.stream.key, staged.event.amount)


@publishes(MoneyWithdrawn, MoneySent, destination="ledger")
def money_out(staged: StagedEvent[MoneyOut]) -> Message:
    return _money_moved(staged.stream.key, -staged.event.amount)


def _money_moved(account: str, amount: Decimal) -> Message:
    return Message(type=MONEY_MOVED, key=account, data={"account": account, "amount": str(amount)})
