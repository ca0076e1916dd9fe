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
    """All that a change may leave behind."""
    return StoredEvent.objects.count(), OutboxMessage.objects.count(), balances()


def test_an_account_is_opened_once() -> None:
    with pytest.raises(ConcurrencyError):
        open_account("ada", owner="Somebody else")
    assert Balance.objects.get(account="ada").owner == "Ada"


def test_nothing_is_done_with_an_account_that_was_not_opened() -> None:
    with pytest.raises(AggregateNotFound):
        deposit("nobody", Decimal(1))


def test_the_balance_changes_in_the_transaction_of_the_deposit() -> None:
    with transaction.atomic():
        deposit("ada", Decimal("0.10"))
        assert balances()["ada"] == Decimal("100.10")


def test_a_deposit_that_is_rolled_back_leaves_no_event_no_message_and_no_balance() -> None:
    before = stored()

    def deposit_in_vain() -> None:
        with transaction.atomic():
            deposit("ada", Decimal(1))
            raise KeyError

    with suppress(KeyError):
        deposit_in_vain()
    assert stored() == before


def test_an_overdraft_stores_nothing() -> None:
    before = stored()
    with pytest.raises(InsufficientFunds):
        withdraw("ada", Decimal("100.01"))
    with pytest.raises(InsufficientFunds):
        transfer("ada", "bob", Decimal("100.01"))
    assert stored() == before


def test_a_transfer_takes_from_one_account_what_it_gives_to_the_other() -> None:
    transfer("ada", "bob", Decimal("30.50"))
    assert balances() == {"ada": Decimal("69.50"), "bob": Decimal("30.50")}
    assert accounts.get("ada").balance == Decimal("69.50")
    assert accounts.get("bob").balance == Decimal("30.50")


def test_both_halves_of_a_transfer_carry_its_id() -> None:
    transfer("ada", "bob", Decimal(1))
    transfer("ada", "bob", Decimal(1))
    sent = [event.metadata["transfer"] for event in accounts.history("ada") if event.type == "bank.money_sent"]
    received = [event.metadata["transfer"] for event in accounts.history("bob") if event.type == "bank.money_received"]
    assert sent == received
    assert len(set(sent)) == 2


@pytest.mark.parametrize("failing", ["ada", "bob"])
def test_a_transfer_that_fails_on_either_side_leaves_both_as_they_were(
    failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_transfer_needs_two_accounts_that_exist() -> None:
    before = stored()
    with pytest.raises(Refused):
        transfer("ada", "ada", Decimal(1))
    with pytest.raises(AggregateNotFound):
        transfer("ada", "nobody", Decimal(1))
    assert stored() == before


def interrupt_saves(monkeypatch: pytest.MonkeyPatch, times: int, other: Callable[[], None]) -> list[int]:
    """Lets `other` come between the load and the save of the next transfers; returns the saves, which it goes on to
    fill."""
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


def test_a_transfer_that_meets_another_change_is_judged_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    saves = interrupt_saves(monkeypatch, 1, lambda: deposit("bob", Decimal(5)))
    transfer("ada", "bob", Decimal(100))
    assert saves == [2]
    assert balances() == {"ada": Decimal(0), "bob": Decimal(105)}


def test_a_transfer_is_refused_when_the_other_change_has_taken_the_money(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_saves(monkeypatch, 1, lambda: withdraw("ada", Decimal(100)))
    with pytest.raises(InsufficientFunds):
        transfer("ada", "bob", Decimal(100))
    assert balances() == {"ada": Decimal(0), "bob": Decimal(0)}


def test_a_transfer_that_always_meets_another_change_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    saves = interrupt_saves(monkeypatch, TRANSFER_ATTEMPTS, lambda: deposit("bob", Decimal(1)))
    with pytest.raises(ConcurrencyError):
        transfer("ada", "bob", Decimal(100))
    assert saves == [TRANSFER_ATTEMPTS]
    assert balances() == {"ada": Decimal(100), "bob": Decimal(TRANSFER_ATTEMPTS)}


def test_transfers_in_both_directions_at_once_neither_lose_nor_make_money() -> None:
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
