"""What the bank offers to the rest of the project. Each call takes effect as a whole or not at all."""

import random
import time
from decimal import Decimal
from uuid import uuid4

from es_django import ConcurrencyError, Repository, metadata
from testproject.bank.aggregates import Account, Refused

accounts = Repository(Account)

TRANSFER_ATTEMPTS = 5


def open_account(key: str, owner: str) -> None:
    """Raises `ConcurrencyError` if the account exists."""
    accounts.save(Account.open(key, owner))


def deposit(key: str, amount: Decimal) -> None:
    """Raises `InvalidAmount`, and `AggregateNotFound` if there is no such account."""
    accounts.execute(key, lambda account: account.deposit(amount))


def withdraw(key: str, amount: Decimal) -> None:
    """Raises as `deposit`, and `InsufficientFunds`."""
    accounts.execute(key, lambda account: account.withdraw(amount))


def transfer(sender: str, receiver: str, amount: Decimal) -> None:
    """Moves money between two accounts. Raises as `withdraw`.

    Both halves carry the same `transfer` in their metadata. If somebody else changes one of the accounts meanwhile,
    both are loaded and judged anew; after `TRANSFER_ATTEMPTS` the last `ConcurrencyError` is raised.
    """
    if sender == receiver:
        raise Refused("a transfer is between two accounts")
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
