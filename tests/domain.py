"""The events and the aggregate of the tests. Processes that the tests start import this module too."""

from decimal import Decimal
from typing import Any

from es_django import Aggregate, Event, applies


class LedgerOpened(Event):
    owner: str

    class Meta:
        name = "tests.ledger_opened"


class Deposited(Event):
    amount: Decimal

    class Meta:
        name = "tests.deposited"


class Withdrawn(Event):
    amount: Decimal

    class Meta:
        name = "tests.withdrawn"


class Annotated(Event):
    note: Any

    class Meta:
        name = "tests.annotated"


class Ledger(Aggregate):
    owner: str = ""
    balance: Decimal = Decimal(0)
    notes: list[Any] = []

    @classmethod
    def open(cls, key: str, owner: str = "Ada") -> "Ledger":
        ledger = cls(key)
        ledger.record(LedgerOpened(owner=owner))
        return ledger

    def deposit(self, amount: int | str) -> None:
        self.record(Deposited(amount=Decimal(amount)))

    def withdraw(self, amount: int | str) -> None:
        if Decimal(amount) > self.balance:
            raise ValueError("the balance is too low")
        self.record(Withdrawn(amount=Decimal(amount)))

    def annotate(self, note: Any) -> None:
        self.record(Annotated(note=note))

    @applies
    def _opened(self, event: LedgerOpened) -> None:
        self.owner = event.owner

    @applies
    def _moved(self, event: Deposited | Withdrawn) -> None:
        self.balance += event.amount if isinstance(event, Deposited) else -event.amount

    @applies
    def _annotated(self, event: Annotated) -> None:
        self.notes.append(event.note)
        if event.note == "refused":
            raise ValueError("this note is refused after it was applied")
