from collections.abc import Callable
from decimal import Decimal

import pytest
from django.db.models import F

from es_django.models import OutboxMessage
from es_django.projections.runner import run_projection
from testproject.bank.demo.backlog import Backlog, publish_again, published_but_unhandled
from testproject.bank.demo.reconciliation import reconcile
from testproject.bank.models import Balance, LedgerEntry, StatementLine
from testproject.bank.services import deposit, open_account, transfer
from tests.bank.conftest import deliver as deliver

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def _all_done(deliver: Callable[[], int]) -> None:
    open_account("ada", owner="Ada")
    open_account("bob", owner="Bob")
    deposit("ada", Decimal("100.00"))
    transfer("ada", "bob", Decimal("30.10"))
    deliver()
    run_projection("statements")


def differing() -> set[str]:
    return {check.subject for check in reconcile() if not check.agrees}


TAMPERING: dict[str, tuple[Callable[[], object], set[str]]] = {
    "an account without a balance": (
        lambda: Balance.objects.filter(account="bob").delete(),
        {"accounts", "money in the balances"},
    ),
    "a balance that is too high": (
        lambda: Balance.objects.filter(account="bob").update(balance=F("balance") + Decimal("0.01")),
        {"money in the balances"},
    ),
    "money in the wrong account": (
        lambda: Balance.objects.update(balance=Decimal("50.00")),
        {"money in the balances"},
    ),
    "a line that is missing": (
        lambda: StatementLine.objects.filter(account="bob", version=1).delete(),
        {"lines in the statements"},
    ),
    "a line with another amount": (
        lambda: StatementLine.objects.filter(account="bob", version=2).update(amount=1),
        {"money in the statements"},
    ),
    "a dead message": (
        lambda: OutboxMessage.objects.filter(key="bob").update(
            status="dead", published_at=None, failed_at=F("created_at")
        ),
        {"outbox messages published"},
    ),
    "an entry that is missing": (
        lambda: LedgerEntry.objects.filter(account="bob").delete(),
        {"entries in the ledger", "money in the ledger"},
    ),
    "an entry of an unknown account": (
        lambda: LedgerEntry.objects.filter(account="bob").update(account="eve"),
        {"money in the ledger"},
    ),
}


class TestReconcile:
    @pytest.mark.usefixtures("_all_done")
    def test_finished_run_agrees(self) -> None:
        assert differing() == set()
        assert Backlog.now().is_cleared

    def test_empty_database_agrees(self) -> None:
        assert differing() == set()
        assert Backlog.now().is_cleared

    @pytest.mark.usefixtures("_all_done")
    @pytest.mark.parametrize(("tamper", "found"), TAMPERING.values(), ids=TAMPERING)
    def test_difference_is_found(self, tamper: Callable[[], object], found: set[str]) -> None:
        tamper()
        assert differing() == found


class TestBacklog:
    def test_backlog_counts_open_work(self, deliver: Callable[[], int]) -> None:
        open_account("ada", owner="Ada")
        deposit("ada", Decimal(1))
        assert Backlog.now() == Backlog(
            messages=1, unpublished=1, unhandled=1, events=2, unprojected=2, projection_failed=False
        )
        deliver()
        assert (Backlog.now().unpublished, Backlog.now().unhandled) == (0, 0)
        assert not Backlog.now().is_cleared
        run_projection("statements")
        assert Backlog.now().is_cleared

    @pytest.mark.usefixtures("_all_done")
    def test_republished_message_is_entered_once(self, deliver: Callable[[], int]) -> None:
        assert published_but_unhandled() == set()
        publish_again(set(OutboxMessage.objects.values_list("message_id", flat=True)))
        assert deliver() == 3
        assert differing() == set()
