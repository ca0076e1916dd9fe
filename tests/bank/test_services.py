from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from es_django import AggregateNotFound, ConcurrencyError
from es_django.models import OutboxMessage, StoredEvent
from testproject.bank.aggregates import Account, InsufficientFunds, Refused
from testproject.bank.models import Balance
from testproject.bank.projections import Balances
from testproject.bank.services import TRANSFER_ATTEMPTS, accounts, deposit, open_account, transfer, withdraw
from tests.threads import threads

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _two_accounts() -> None:
    open_account("ada", owner="Ada")
    open_account("bob", owner="Bob")
    deposit("ada", Decimal(100))


def balances() -> dict[str, Decimal]:
    return dict(Balance.objects.values_list("account", "balance"))


def stored() -> tuple[int, int, dict[str, Decimal]]:
    """Return the number of events, the number of messages, and all balances."""
    return StoredEvent.objects.count(), OutboxMessage.objects.count(), balances()


def interrupt_saves(monkeypatch: pytest.MonkeyPatch, times: int, other: Callable[[], None]) -> list[int]:
    """Run `other` between the load and the save of the next transfers. Return a list that counts the saves."""
    save_all, saves = accounts.save_all, [0]

    def save_after_other(aggregates: list[Account]) -> None:
        saves[0] += 1
        if saves[0] <= times:
            with monkeypatch.context() as undisturbed:
                undisturbed.setattr(accounts, "save_all", save_all)
                other()
        save_all(aggregates)

    monkeypatch.setattr(accounts, "save_all", save_after_other)
    return saves


class TestAccounts:
    def test_opening_an_account_twice_is_refused(self) -> None:
        with pytest.raises(ConcurrencyError):
            open_account("ada", owner="Somebody else")
        assert Balance.objects.get(account="ada").owner == "Ada"

    def test_unknown_account_is_an_error(self) -> None:
        with pytest.raises(AggregateNotFound):
            deposit("nobody", Decimal(1))

    def test_balance_changes_with_the_deposit(self) -> None:
        with transaction.atomic():
            deposit("ada", Decimal("0.10"))
            assert balances()["ada"] == Decimal("100.10")

    def test_rolled_back_deposit_leaves_nothing(self) -> None:
        before = stored()

        def deposit_in_vain() -> None:
            with transaction.atomic():
                deposit("ada", Decimal(1))
                raise KeyError

        with suppress(KeyError):
            deposit_in_vain()
        assert stored() == before

    def test_overdraft_stores_nothing(self) -> None:
        before = stored()
        with pytest.raises(InsufficientFunds):
            withdraw("ada", Decimal("100.01"))
        with pytest.raises(InsufficientFunds):
            transfer("ada", "bob", Decimal("100.01"))
        assert stored() == before


class TestTransfer:
    def test_both_accounts_change(self) -> None:
        transfer("ada", "bob", Decimal("30.50"))
        assert balances() == {"ada": Decimal("69.50"), "bob": Decimal("30.50")}
        assert accounts.get("ada").balance == Decimal("69.50")
        assert accounts.get("bob").balance == Decimal("30.50")

    def test_both_events_carry_the_transfer_id(self) -> None:
        transfer("ada", "bob", Decimal(1))
        transfer("ada", "bob", Decimal(1))
        sent = [event.metadata["transfer"] for event in accounts.history("ada") if event.type == "bank.money_sent"]
        received = [
            event.metadata["transfer"] for event in accounts.history("bob") if event.type == "bank.money_received"
        ]
        assert sent == received
        assert len(set(sent)) == 2

    @pytest.mark.parametrize("failing", ["ada", "bob"])
    def test_failure_on_either_side_changes_nothing(self, failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
        add = Balances._add

        def fail(self: Balances, account: str, amount: Decimal) -> None:
            add(self, account, amount)
            if account == failing:
                raise RuntimeError

        monkeypatch.setattr(Balances, "_add", fail)
        before = stored()
        with pytest.raises(RuntimeError):
            transfer("ada", "bob", Decimal(1))
        assert stored() == before

    def test_both_accounts_must_exist_and_differ(self) -> None:
        before = stored()
        with pytest.raises(Refused):
            transfer("ada", "ada", Decimal(1))
        with pytest.raises(AggregateNotFound):
            transfer("ada", "nobody", Decimal(1))
        assert stored() == before


class TestConcurrentTransfers:
    def test_conflict_is_retried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        saves = interrupt_saves(monkeypatch, 1, lambda: deposit("bob", Decimal(5)))
        transfer("ada", "bob", Decimal(100))
        assert saves == [2]
        assert balances() == {"ada": Decimal(0), "bob": Decimal(105)}

    def test_retried_transfer_is_refused_if_the_money_is_spent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        interrupt_saves(monkeypatch, 1, lambda: withdraw("ada", Decimal(100)))
        with pytest.raises(InsufficientFunds):
            transfer("ada", "bob", Decimal(100))
        assert balances() == {"ada": Decimal(0), "bob": Decimal(0)}

    def test_transfer_raises_after_repeated_conflicts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        saves = interrupt_saves(monkeypatch, TRANSFER_ATTEMPTS, lambda: deposit("bob", Decimal(1)))
        with pytest.raises(ConcurrencyError):
            transfer("ada", "bob", Decimal(100))
        assert saves == [TRANSFER_ATTEMPTS]
        assert balances() == {"ada": Decimal(100), "bob": Decimal(TRANSFER_ATTEMPTS)}

    def test_total_is_unchanged_by_concurrent_transfers(self) -> None:
        deposit("bob", Decimal(100))

        def send(sender: str, receiver: str) -> None:
            for _ in range(5):
                with suppress(ConcurrencyError):
                    transfer(sender, receiver, Decimal(1))

        with threads(4) as submit:
            sending: list[Any] = [submit(send, *pair) for pair in [("ada", "bob"), ("bob", "ada")] * 2]
        for sent in sending:
            sent.result()
        assert sum(balances().values()) == Decimal(200)
        assert balances() == {key: accounts.get(key).balance for key in ("ada", "bob")}
