from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from es_django import Aggregate, Event, applies
from es_django.errors import InvalidStreamId, PayloadError
from tests.domain import Deposited, Ledger, LedgerOpened


class Ignored(Event):
    class Meta:
        name = "tests.ignored"


def test_recording_applies_and_keeps() -> None:
    ledger = Ledger.open("l-1")
    ledger.deposit(5)
    assert (ledger.owner, ledger.balance) == ("Ada", Decimal(5))
    assert ledger.pending_events == [LedgerOpened(owner="Ada"), Deposited(amount=Decimal(5))]
    assert (ledger.version, ledger.committed_version) == (2, 0)


def test_an_event_whose_applying_raises_leaves_no_trace() -> None:
    ledger = Ledger.open("l-1")
    ledger.annotate("kept")
    with pytest.raises(ValueError, match="refused after"):
        ledger.annotate("refused")
    assert ledger.notes == ["kept"]
    assert ledger.version == len(ledger.pending_events) == 2


def test_a_payload_that_cannot_be_stored_fails_when_it_is_recorded() -> None:
    ledger = Ledger.open("l-1")
    with pytest.raises(PayloadError, match=r"tests\.annotated\.note is nan"):
        ledger.annotate(float("nan"))
    assert (ledger.version, ledger.notes) == (1, [])


def test_an_event_that_nothing_applies_is_refused() -> None:
    ledger = Ledger.open("l-1")
    with pytest.raises(TypeError, match="no @applies method for Ignored"):
        ledger.record(Ignored())
    with pytest.raises(TypeError, match="is no Event"):
        ledger.record("deposited")  # type: ignore[arg-type]
    assert ledger.version == 1


def test_mutable_initial_values_are_not_shared() -> None:
    first, second = Ledger("l-1"), Ledger("l-2")
    first.annotate("mine")
    assert second.notes == []
    assert Ledger("l-3").notes == []


def test_a_blank_key_is_refused() -> None:
    with pytest.raises(InvalidStreamId):
        Ledger(" ")


def test_the_category_is_the_class_name_in_lower_case_unless_given() -> None:
    class Invoice(Aggregate):
        pass

    class Bill(Aggregate):
        class Meta:
            category = "invoice"

    assert (Invoice("i").stream, Bill("i").stream.category) == (Bill("i").stream, "invoice")


def test_a_subclass_applies_what_its_base_does() -> None:
    class Savings(Ledger):
        interest: int = 0

        @applies
        def _ignored(self, event: Ignored) -> None:
            self.interest += 1

    savings = Savings("s")
    savings.deposit(3)
    savings.record(Ignored())
    assert (savings.balance, savings.interest) == (Decimal(3), 1)


def _two_for_one_event() -> None:
    class Twice(Aggregate):
        @applies
        def one(self, event: Deposited) -> None: ...

        @applies
        def two(self, event: Deposited) -> None: ...


def _no_annotation() -> None:
    class Untyped(Aggregate):
        @applies
        def one(self, event: Any) -> None: ...


def _too_many_parameters() -> None:
    class Greedy(Aggregate):
        @applies  # type: ignore[type-var]
        def one(self, event: Deposited, more: int) -> None: ...


def _taken_name() -> None:
    class Clash(Aggregate):
        version: int = 0


def _unknown_option() -> None:
    class Unknown(Aggregate):
        class Meta:
            catgory = "x"


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (_two_for_one_event, "one and two both take Deposited"),
        (_no_annotation, "annotate the event with its Event class"),
        (_too_many_parameters, "takes self and the event"),
        (_taken_name, "every aggregate has version already"),
        (_unknown_option, "no option catgory"),
    ],
)
def test_a_mistake_in_the_class_is_told_when_it_is_made(define: Any, message: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        define()
