"""The services of the bank. Each call takes effect completely or not at all."""

import random
import time
from decimal import Decimal
from uuid import uuid4

from es_django import ConcurrencyError, Repository, metadata
from testproject.bank.aggregates import Account, Refused

accounts = Repository(Account)

TRANSFER_ATTEMPTS = 5


def open_account(key: str, owner: str) -> None:
    """Open an account. Raise `ConcurrencyError` if the account exists."""
    accounts.save(Account.open(key, owner))


def deposit(key: str, amount: Decimal) -> None:
    """Pay money in. Raise `InvalidAmount`, or `AggregateNotFound` if the account does not exist."""
    accounts.execute(key, lambda account: account.deposit(amount))


def withdraw(key: str, amount: Decimal) -> None:
    """Pay money out. Raise the errors of `deposit`, or `InsufficientFunds`."""
    accounts.execute(key, lambda account: account.withdraw(amount))


def transfer(sender: str, receiver: str, amount: Decimal) -> None:
    """Move money between two accounts. Raise the errors of `withdraw`.

    Both events carry the same `transfer` id in their metadata. After a conflict, load both accounts and
    decide again. After `TRANSFER_ATTEMPTS` conflicts, raise the last `ConcurrencyError`.
    """
    if sender == receiver:
        raise Refused("a transfer needs two different accounts")
    with metadata(transfer=str(uuid4())):
        for attempt in range(1, TRANSFER_ATTEMPTS + 1):
            source, target = accounts.get(sender), accounts.get(receiver)
            source.send(amount, receiver)
            target.receive(amount, sender)
            try:
                return accounts.save_all([source, target])
            except ConcurrencyError:
                if attempt == TRANSFER_ATTEMPTS:
                    raise
                time.sleep(random.uniform(0, 0.02 * attempt))
