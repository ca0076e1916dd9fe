"""The read models of the bank. They derive from the events alone, so they can be rebuilt."""

from decimal import Decimal

from django.db.models import F

from es_django import Projection, RecordedEvent, projects
from testproject.bank.events import AccountOpened, MoneyIn, MoneyOut
from testproject.bank.models import Balance, StatementLine


class Balances(Projection):
    """An inline projection, in the transaction of the event: customers see their own deposit at once."""

    class Meta:
        name = "balances"
        mode = "inline"
        models = [Balance]

    @projects
    def opened(self, event: AccountOpened, recorded: RecordedEvent) -> None:
        Balance.objects.create(account=recorded.stream.key, owner=event.owner, balance=0)

    @projects
    def money_in(self, event: MoneyIn, recorded: RecordedEvent) -> None:
        self._add(recorded.stream.key, event.amount)

    @projects
    def money_out(self, event: MoneyOut, recorded: RecordedEvent) -> None:
        self._add(recorded.stream.key, -event.amount)

    def _add(self, account: str, amount: Decimal) -> None:
        Balance.objects.filter(account=account).update(balance=F("balance") + amount)


class Statements(Projection):
    """An asynchronous projection: it runs shortly after the commit and adds nothing to the transaction of the event."""

    class Meta:
        name = "statements"
        mode = "async"
        models = [StatementLine]

    @projects
    def opened(self, event: AccountOpened, recorded: RecordedEvent) -> None:
        self._write(recorded, Decimal(0))

    @projects
    def money_in(self, event: MoneyIn, recorded: RecordedEvent) -> None:
        self._write(recorded, event.amount)

    @projects
    def money_out(self, event: MoneyOut, recorded: RecordedEvent) -> None:
        self._write(recorded, -event.amount)

    def _write(self, recorded: RecordedEvent, amount: Decimal) -> None:
        account = recorded.stream.key
        before = StatementLine.objects.filter(account=account).order_by("-version").first()
        StatementLine.objects.create(
            position=recorded.position,
            account=account,
            version=recorded.version,
            type=recorded.type,
            amount=amount,
            balance=(before.balance if before else 0) + amount,
            at=recorded.recorded_at,
        )
