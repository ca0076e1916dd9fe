from collections.abc import Callable
from decimal import Decimal

import pytest
from django.db.models import Sum

from es_django import Message
from es_django.messages.message import to_wire
from es_django.models import InboxReceipt
from es_django.tasks import handle_message
from es_django.testing import outbox_messages
from testproject.bank.models import Balance, LedgerEntry
from testproject.bank.outbox import MONEY_MOVED
from testproject.bank.services import deposit, open_account, transfer, withdraw

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _some_business() -> None:
    open_account("ada", owner="Ada")
    open_account("bob", owner="Bob")
    deposit("ada", Decimal("100.00"))
    transfer("ada", "bob", Decimal("30.10"))
    withdraw("bob", Decimal("0.10"))


class TestMessages:
    def test_only_movements_of_money_are_messages(self) -> None:
        sent = outbox_messages()
        assert {(message.destination, message.type) for message in sent} == {("ledger", MONEY_MOVED)}
        assert sorted((message.key, message.data["account"], message.data["amount"]) for message in sent) == [
            ("ada", "ada", "-30.10"),
            ("ada", "ada", "100.00"),
            ("bob", "bob", "-0.10"),
            ("bob", "bob", "30.10"),
        ]


class TestLedger:
    def test_ledger_equals_the_balances(self, deliver: Callable[[], int]) -> None:
        assert deliver() == 4
        totals = dict(LedgerEntry.objects.values_list("account").annotate(Sum("amount")))
        assert {account: round(total, 2) for account, total in totals.items()} == {
            "ada": Decimal("69.90"),
            "bob": Decimal("30.00"),
        }
        assert totals.keys() == set(Balance.objects.values_list("account", flat=True))
        assert len(outbox_messages()) == 4, "published messages stay"

    def test_entries_keep_the_order_of_the_events(self, deliver: Callable[[], int]) -> None:
        deliver()
        entries = LedgerEntry.objects.filter(account="bob").order_by("id")
        assert list(entries.values_list("amount", flat=True)) == [Decimal("30.10"), Decimal("-0.10")]

    def test_repeated_message_is_entered_once(self) -> None:
        message = to_wire(Message(type=MONEY_MOVED, data={"account": "ada", "amount": "1.00"}))
        handle_message(message)
        handle_message(message)
        assert LedgerEntry.objects.count() == 1

    def test_message_without_an_amount_becomes_dead(self) -> None:
        handle_message(to_wire(Message(type=MONEY_MOVED, data={"account": "ada"})))
        assert not LedgerEntry.objects.exists()
        assert InboxReceipt.objects.get().status == InboxReceipt.Status.DEAD
