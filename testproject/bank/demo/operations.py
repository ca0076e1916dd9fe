"""The operations of the demo's customers. A seed always gives the same operations; only the account keys differ."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from uuid import uuid4

from testproject.bank import services
from testproject.bank.aggregates import InsufficientFunds

OWNERS = ["Ada", "Barbara", "Edsger", "Frances", "Grace", "Jim", "Leslie", "Pat", "Radia", "Tony"]


class Customers:
    """Opens accounts and moves money. `done` counts the operations by kind, and the refused ones."""

    def __init__(self, accounts: int, seed: int) -> None:
        self._random = random.Random(seed)
        run = uuid4().hex[:8]
        self._keys = [f"{run}-{number:03}" for number in range(1, accounts + 1)]
        self.done: Counter[str] = Counter()

    def open_accounts(self) -> Iterator[None]:
        """Open one account per step."""
        for key in self._keys:
            services.open_account(key, self._random.choice(OWNERS))
            self.done["opened"] += 1
            yield

    def operate(self, operations: int) -> Iterator[None]:
        """Perform one operation per step."""
        kinds: dict[str, Callable[[], None]] = {
            "deposits": self._deposit,
            "withdrawals": self._withdraw,
            "transfers": self._transfer,
        }
        for kind in self._random.choices(list(kinds), weights=[50, 20, 30], k=operations):
            try:
                kinds[kind]()
                self.done[kind] += 1
            except InsufficientFunds:
                self.done["refused"] += 1
            yield

    def _deposit(self) -> None:
        services.deposit(self._account(), self._amount(up_to=500))

    def _withdraw(self) -> None:
        services.withdraw(self._account(), self._amount(up_to=250))

    def _transfer(self) -> None:
        sender, receiver = self._random.sample(self._keys, 2)
        services.transfer(sender, receiver, self._amount(up_to=250))

    def _account(self) -> str:
        return self._random.choice(self._keys)

    def _amount(self, *, up_to: int) -> Decimal:
        return Decimal(self._random.randint(1, up_to * 100)).scaleb(-2)
