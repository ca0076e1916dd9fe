"""On every backend, no key of a value object is dropped and no default stands in for one."""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from es_django import NO_STREAM, Aggregate, Event, Repository, StreamId, applies, event_store
from es_django.errors import PayloadError, UndecodableEvent
from tests.conformance.tampering import add_events, change_snapshot, snapshot_version

STREAM = StreamId("tests.priced", "p-1")


class Money(msgspec.Struct, frozen=True):
    amount: int
    currency: str = "EUR"


class Price(msgspec.Struct, eq=False):
    """A value object that is equal to its own subclasses."""

    amount: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Price) and other.amount == self.amount

    __hash__ = None  # type: ignore[assignment]


class Reduced(Price):
    percent: int = 10


@dataclass
class Weight:
    grams: int
    unit: str = "g"


class Priced(Event):
    total: Money
    parts: list[Money] = []

    class Meta:
        name = "tests.shapes.priced"


class Offered(Event):
    prices: dict[str, Price] = {}
    weights: list[Weight] = []

    class Meta:
        name = "tests.shapes.offered"


class Cart(Aggregate):
    total: Money
    parts: list[Money]

    class Meta:
        category = "tests.priced"
        snapshot_every = 1

    def price(self, total: Money, *parts: Money) -> None:
        self.record(Priced(total=total, parts=list(parts)))

    @applies
    def _priced(self, event: Priced) -> None:
        self.total, self.parts = event.total, event.parts


def without_unit() -> Weight:
    weight = Weight(1)
    del weight.unit  # reading the attribute now returns the default of the class
    return weight


USD = {"amount": 9, "currency": "USD"}
UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "lost key": ({"total": {**USD, "cents": 5}, "parts": []}, r"total\.cents is stored"),
    "default": ({"total": {"amount": 9}, "parts": []}, r"total\.currency is not stored"),
    "renamed key": ({"total": {"amount": 9, "curr": "USD"}, "parts": []}, r"total\.curr is stored"),
    "in a list": ({"total": USD, "parts": [USD, {"amount": 9}]}, r"parts\[1\]\.currency is not stored"),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("backend")
class TestShapes:
    @pytest.mark.parametrize(("data", "reason"), UNFIT.values(), ids=UNFIT)
    def test_fault_a3_a_stored_event_with_other_keys_is_undecodable(self, data: dict[str, Any], reason: str) -> None:
        add_events(STREAM, (Priced.Meta.name, 1, data))
        with pytest.raises(UndecodableEvent, match=rf"tests\.shapes\.priced.*{reason}.*schema version 1"):
            list(event_store.read_stream(STREAM))

    @pytest.mark.parametrize("data", [data for data, _ in UNFIT.values()], ids=UNFIT)
    def test_fault_a3_a_snapshot_with_other_keys_is_not_used(self, data: dict[str, Any]) -> None:
        carts = Repository(Cart)
        cart = Cart("p-1")
        cart.price(Money(1, "USD"), Money(2, "CHF"))
        carts.save(cart)
        assert snapshot_version(STREAM) == 1
        change_snapshot(STREAM, state={"total": USD, "parts": [USD]})
        assert carts.get("p-1").total == Money(9, "USD")  # a snapshot that fits is used
        change_snapshot(STREAM, state=data)
        cart = carts.get("p-1")
        assert (cart.total, cart.parts) == (Money(1, "USD"), [Money(2, "CHF")])

    @pytest.mark.parametrize(
        ("event", "message"),
        [
            (Offered(prices={"a": Reduced(5)}), r"tests\.shapes\.offered\.prices\['a'\]\.percent: is stored"),
            (
                Offered(weights=[Weight(2), without_unit()]),
                r"tests\.shapes\.offered\.weights\[1\]\.unit: is not stored",
            ),
        ],
        ids=["key of a subclass", "deleted attribute"],
    )
    def test_fault_a3_an_event_that_could_not_be_read_back_is_refused(self, event: Offered, message: str) -> None:
        with pytest.raises(PayloadError, match=message):
            event_store.append(STREAM, [event], expected=NO_STREAM)
        assert event_store.version(STREAM) == 0
        event_store.append(STREAM, [Offered(prices={"a": Price(5)}, weights=[Weight(2)])], expected=NO_STREAM)
        assert len(list(event_store.read_stream(STREAM))) == 1
