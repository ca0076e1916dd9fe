"""Compares the events of the whole database with every read model and message made from them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from django.db.models import Sum

from es_django import RecordedEvent, event_store
from es_django.models import OutboxMessage
from testproject.bank.aggregates import CENT, Account
from testproject.bank.demo.backlog import LEDGER
from testproject.bank.events import MoneyDeposited, MoneyIn, MoneyOut, MoneyReceived, MoneySent, MoneyWithdrawn
from testproject.bank.models import Balance, LedgerEntry, StatementLine

NOTHING = Decimal("0.00")
Money = Mapping[str, Decimal]
"""The balance of each account."""


@dataclass(frozen=True)
class Check:
    """A row of the closing table."""

    subject: str
    expected: int | Decimal
    found: int | Decimal
    differing_accounts: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        return self.expected == self.found and not self.differing_accounts


def reconcile() -> list[Check]:
    events, movements, money = 0, 0, defaultdict[str, Decimal](Decimal)
    for recorded in _events():
        events += 1
        money[recorded.stream.key] += _change(recorded)
        movements += isinstance(recorded.event, MoneyIn | MoneyOut)
    return [
        Check("accounts", len(money), Balance.objects.count()),
        _same_money("money in the balances", money, Balance.objects.values_list("account", "balance")),
        Check("lines in the statements", events, StatementLine.objects.count()),
        _same_money("money in the statements", money, _sums(StatementLine)),
        Check(
            "outbox messages published", LEDGER.count(), LEDGER.filter(status=OutboxMessage.Status.PUBLISHED).count()
        ),
        Check("entries in the ledger", movements, LedgerEntry.objects.count()),
        _same_money("money in the ledger", money, _sums(LedgerEntry)),
    ]


def _events() -> Iterator[RecordedEvent]:
    """All events of the bank, in log order."""
    page = event_store.read_all(categories=[Account.category])
    while page.events:
        yield from page.events
        page = event_store.read_all(after=page.position, categories=[Account.category])


def _change(recorded: RecordedEvent) -> Decimal:
    match recorded.event:
        case MoneyDeposited(amount=amount) | MoneyReceived(amount=amount):
            return amount
        case MoneyWithdrawn(amount=amount) | MoneySent(amount=amount):
            return -amount
    return NOTHING


def _sums(model: type[StatementLine] | type[LedgerEntry]) -> Iterable[tuple[str, Decimal]]:
    return model.objects.values_list("account").annotate(Sum("amount"))


def _same_money(subject: str, expected: Money, found: Iterable[tuple[str, Decimal]]) -> Check:
    # SQLite computes sums in floating point.
    cents = {account: amount.quantize(CENT) for account, amount in found}
    differing = [key for key in expected.keys() | cents.keys() if expected.get(key, 0) != cents.get(key, 0)]
    return Check(subject, sum(expected.values(), NOTHING), sum(cents.values(), NOTHING), sorted(differing))
