"""The ledger: a consumer of the bank's messages. A message that arrives twice takes effect once."""

from decimal import Decimal

from es_django import Message, handles
from testproject.bank.models import LedgerEntry
from testproject.bank.outbox import MONEY_MOVED


@handles(MONEY_MOVED, consumer="ledger")
def enter(message: Message) -> None:
    LedgerEntry.objects.create(
        message_id=message.message_id,
        account=message.data["account"],
        amount=Decimal(message.data["amount"]),
    )
