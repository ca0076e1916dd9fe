from decimal import Decimal
from typing import Any

import pytest

from es_django import event_store
from es_django.models import ProjectionCheckpoint
from es_django.projections.runner import run_projection
from testproject.bank.models import Balance, StatementLine
from testproject.bank.projections import Balances
from testproject.bank.services import deposit, open_account, transfer, withdraw

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _some_business() -> None:
    open_account("ada", owner="Ada")
    open_account("bob", owner="Bob")
    deposit("ada", Decimal("100.00"))
    transfer("ada", "bob", Decimal("30.10"))
    withdraw("bob", Decimal("0.10"))


def lines(account: str) -> list[tuple[int, str, Decimal, Decimal]]:
    found = StatementLine.objects.filter(account=account).order_by("version")
    return list(found.values_list("version", "type", "amount", "balance"))


def everything(model: Any) -> list[dict[str, Any]]:
    return list(model.objects.order_by("pk").values())


class TestBalances:
    def test_balances_are_inline(self) -> None:
        found = list(Balance.objects.order_by("account").values_list("account", "owner", "balance"))
        assert found == [("ada", "Ada", Decimal("69.90")), ("bob", "Bob", Decimal("30.00"))]

    def test_rebuild_gives_the_same_balances(self) -> None:
        before = everything(Balance)
        Balance.objects.all().delete()
        Balances().project_batch(event_store.read_all(types=Balances.event_classes).events)
        assert everything(Balance) == before


class TestStatements:
    def test_each_event_has_a_line_with_the_balance_after_it(self) -> None:
        run_projection("statements")
        assert lines("ada") == [
            (1, "bank.account_opened", Decimal(0), Decimal(0)),
            (2, "bank.money_deposited", Decimal("100.00"), Decimal("100.00")),
            (3, "bank.money_sent", Decimal("-30.10"), Decimal("69.90")),
        ]
        assert lines("bob") == [
            (1, "bank.account_opened", Decimal(0), Decimal(0)),
            (2, "bank.money_received", Decimal("30.10"), Decimal("30.10")),
            (3, "bank.money_withdrawn", Decimal("-0.10"), Decimal("30.00")),
        ]

    def test_line_has_position_and_time(self) -> None:
        run_projection("statements")
        events = event_store.read_all().events
        found = list(StatementLine.objects.order_by("position").values_list("position", "at"))
        assert found == [(event.position, event.recorded_at) for event in events]

    def test_statements_are_asynchronous(self) -> None:
        assert not StatementLine.objects.exists()
        assert run_projection("statements") == 6
        deposit("ada", Decimal(1))
        assert run_projection("statements") == 1
        assert run_projection("statements") == 0

    def test_rebuild_gives_the_same_statements(self) -> None:
        run_projection("statements")
        before = everything(StatementLine)
        StatementLine.objects.all().delete()
        ProjectionCheckpoint.objects.filter(name="statements").delete()
        run_projection("statements")
        assert everything(StatementLine) == before
