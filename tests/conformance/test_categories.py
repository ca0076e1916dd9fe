"""Two aggregates with the same key in two categories share nothing."""

from decimal import Decimal

import pytest

from es_django import Repository, event_store
from tests.conformance.tampering import delete_snapshot, snapshot_version
from tests.domain import Ledger
from tests.threads import threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("backend")]


class Savings(Ledger):
    class Meta:
        snapshot_every = 2


class Credit(Ledger):
    class Meta:
        snapshot_every = 1


savings, credits = Repository(Savings), Repository(Credit)


@pytest.fixture(autouse=True)
def _one_of_each(backend: str) -> None:
    saving, credit = Savings("same"), Credit("same")
    saving.deposit(5)
    credit.deposit(7)
    savings.save(saving)
    credits.save(credit)


class TestSameKeyInTwoCategories:
    def test_streams_have_separate_events(self) -> None:
        savings.execute("same", lambda ledger: ledger.deposit(1))
        assert (savings.get("same").balance, credits.get("same").balance) == (Decimal(6), Decimal(7))
        assert [recorded.version for recorded in savings.history("same")] == [1, 2]
        assert [recorded.version for recorded in credits.history("same")] == [1]
        assert len(event_store.read_all(categories=["credit"]).events) == 1

    def test_streams_have_separate_snapshots(self) -> None:
        assert (snapshot_version(Savings("same").stream), snapshot_version(Credit("same").stream)) == (None, 1)
        savings.execute("same", lambda ledger: ledger.deposit(1))
        delete_snapshot(Credit("same").stream)
        assert (snapshot_version(Savings("same").stream), snapshot_version(Credit("same").stream)) == (2, None)
        assert (savings.get("same").balance, credits.get("same").balance) == (Decimal(6), Decimal(7))

    @pytest.mark.requires_postgresql
    def test_streams_have_separate_locks(self) -> None:
        def deposit_under_lock() -> None:
            with credits.lock("same", timeout=10) as ledger:
                ledger.deposit(1)

        with savings.lock("same") as ledger, threads(1) as submit:
            ledger.deposit(1)
            submit(deposit_under_lock).result(30)
        assert (savings.get("same").balance, credits.get("same").balance) == (Decimal(6), Decimal(8))
