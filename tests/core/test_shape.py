"""At any depth, a payload has the keys of today's class, or reading it is an error."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, NamedTuple, NotRequired, TypedDict, TypeVar

import msgspec
import pytest

from es_django import Event, PendingEvent, StreamId, upcasts
from es_django.core.registry import registry
from es_django.core.shape import Shape
from es_django.errors import UndecodableEvent

STREAM = StreamId("price", "p-1")
T = TypeVar("T")


class Money(msgspec.Struct):
    amount: int
    currency: str = "EUR"


class Renamed(msgspec.Struct, rename="camel"):
    unit_price: int = 0


class Short(msgspec.Struct, omit_defaults=True):
    amount: int
    currency: str = "EUR"


class Listed(msgspec.Struct, array_like=True):
    amount: int
    currency: str = "EUR"


class Card(msgspec.Struct, tag="card"):
    number: str
    country: str = "DE"


class Cash(msgspec.Struct, tag="cash"):
    till: int = 1


class Boxed(msgspec.Struct, Generic[T]):
    content: T


class Node(msgspec.Struct):
    value: int = 0
    children: "list[Node]" = []


@dataclass
class Amount:
    amount: int
    currency: str = "EUR"
    computed: int = field(init=False, default=3)


class Weight(TypedDict):
    grams: int
    note: NotRequired[str]


class Point(NamedTuple):
    x: int
    y: int = 0


class Odd(msgspec.Struct):
    unit: str = msgspec.field(name="unit-price", default="EUR")
    note: str | msgspec.UnsetType = msgspec.UNSET


class One(msgspec.Struct, tag=1, array_like=True):
    money: Money


class Two(msgspec.Struct, tag=2, array_like=True, forbid_unknown_fields=True):
    amount: int


class Branch(msgspec.Struct, tag="branch"):
    left: "Branch | Leaf | None" = None


class Leaf(msgspec.Struct, tag="leaf"):
    parent: Branch | None = None


class Folder(TypedDict):
    files: "list[File]"


@dataclass
class File:
    name: str
    inside: Folder | None = None


class Flat(Event):
    number: int
    currency: str = "EUR"

    class Meta:
        name = "tests.shape.flat"


class Plain(Event):
    number: int
    words: list[str]

    class Meta:
        name = "tests.shape.plain"


class Deep(Event):
    money: Money | None = None

    class Meta:
        name = "tests.shape.deep"
        version = 2


@upcasts(Deep, from_version=1)
def give_money(data: dict[str, Any]) -> dict[str, Any]:
    return {"money": data["price"]}


def difference(type: Any, payload: Any) -> str | None:
    found = Shape(type).difference(json.dumps(payload))
    return None if found is None else found[0]


UNFIT: list[tuple[Any, Any, str]] = [
    (Annotated[Money, msgspec.Meta(description="price")], {"amount": 1}, "currency"),
    (Card | None, {"number": "1"}, "country"),
    (Money, {"amount": 1, "curr": "USD", "currency": "EUR"}, "curr"),
    (Money, {"amount": 1}, "currency"),
    (list[Money], [{"amount": 1, "currency": "USD"}, {"amount": 1}], "[1].currency"),
    (dict[str, Money], {"a": {"amount": 1}}, "['a'].currency"),
    (tuple[int, Money], [1, {"amount": 1}], "[1].currency"),
    (tuple[Money, ...], [{"amount": 1}], "[0].currency"),
    (Money | None, {"amount": 1}, "currency"),
    (list[Money] | None, [{"amount": 1}], "[0].currency"),
    (Renamed, {}, "unitPrice"),
    (Renamed, {"unitPrice": 1, "unit_price": 1}, "unit_price"),
    (Short, {"amount": 1, "curr": "USD"}, "curr"),
    (Listed, [1], "currency"),
    (Listed, [1, "USD", 7], "[2]"),
    (Card | Cash, {"type": "card", "number": "1"}, "country"),
    (Card | Cash | None, {"type": "cash", "till": 1, "old": 1}, "old"),
    (Card, {"type": "card", "number": "1", "country": "DE", "old": 1}, "old"),
    (Boxed[Money], {"content": {"amount": 1}}, "content.currency"),
    (Boxed[list[Money]], {"content": [{"amount": 1}]}, "content[0].currency"),
    (Node, {"value": 1, "children": [{"value": 1, "children": [{"value": 1}]}]}, "children[0].children[0].children"),
    (Amount, {"amount": 1}, "currency"),
    (Amount, {"amount": 1, "currency": "EUR", "curr": "USD"}, "curr"),
    (Weight, {"grams": 1, "kilos": 2}, "kilos"),
    (Point, [1], "y"),
    (dict[str, list[Money | None]], {"a": [None, {"amount": 1}]}, "['a'][1].currency"),
    (Flat, {"number": 1}, "currency"),
    (Money | int | str, {"amount": 1}, "currency"),
    (Money | list[Money] | str, [{"amount": 1}], "[0].currency"),
    (dict[int, Money], {"1": {"amount": 1}}, "['1'].currency"),
    (Annotated[list[Annotated[Money, "net"]], msgspec.Meta(min_length=1)], [{"amount": 1}], "[0].currency"),
    (Odd, {"note": "x"}, "unit-price"),
    (Odd, {"unit-price": "EUR", "unit": "USD"}, "unit"),
    (One | Two, [1, {"amount": 1}], "[1].currency"),
    (Branch, {"type": "branch", "left": {"type": "leaf", "parent": {"type": "branch"}}}, "left.parent.left"),
    (Folder, {"files": [{"name": "a", "inside": {"files": [{"name": "b"}]}}]}, "files[0].inside.files[0].inside"),
    (list[Money | None] | dict[str, Money], {"a": {"amount": 1}}, "['a'].currency"),
]

FIT: list[tuple[Any, Any]] = [
    (Annotated[Money, msgspec.Meta(description="price")], {"amount": 1, "currency": "USD"}),
    (list[int], [1, 2]),
    (Money, {"amount": 1, "currency": "USD"}),
    (Short, {"amount": 1}),
    (Short, {"amount": 1, "currency": "EUR"}),
    (Card | Cash, {"type": "cash", "till": 1}),
    (Card, {"number": "1", "country": "DE"}),
    (Node, {"value": 1, "children": [{"value": 1, "children": []}]}),
    (Amount, {"amount": 1, "currency": "EUR"}),
    (Amount, {"amount": 1, "currency": "EUR", "computed": 3}),
    (Weight, {"grams": 1}),
    (Point, [1, 2]),
    (Listed, [1, "USD"]),
    (dict[str, Any], {"any": {"thing": 1}}),
    (Flat, {"number": 1, "currency": "USD"}),
    (Money | int | str, "text"),
    (Money | list[Money] | str, [{"amount": 1, "currency": "USD"}]),
    (dict[int, Money], {"1": {"amount": 1, "currency": "USD"}}),
    (Odd, {"unit-price": "EUR"}),
    (Odd, {"unit-price": "EUR", "note": "x"}),
    (One | Two, [1, {"amount": 1, "currency": "USD"}]),
    (One | Two, [2, 7]),
    (Branch, {"type": "branch", "left": {"type": "leaf", "parent": {"type": "branch", "left": None}}}),
    (Folder, {"files": [{"name": "a", "inside": {"files": [{"name": "b", "inside": None}]}}]}),
    (list[Money | None] | dict[str, Money], [None, {"amount": 1, "currency": "USD"}]),
]


class TestShape:
    @pytest.mark.parametrize(("type", "payload", "path"), UNFIT)
    def test_fault_a3_a_lost_key_or_a_default_is_found_at_its_path(self, type: Any, payload: Any, path: str) -> None:
        msgspec.json.decode(json.dumps(payload), type=type)  # msgspec alone misreads the payload in silence
        assert difference(type, payload) == path

    @pytest.mark.parametrize(("type", "payload"), FIT)
    def test_fault_a3_a_payload_with_the_keys_of_today_is_read(self, type: Any, payload: Any) -> None:
        assert difference(type, payload) is None

    def test_fault_a3_a_payload_that_fits_is_never_parsed_in_python(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shapes = [(Shape(type), payload) for type, payload in [*FIT, (Plain, {"number": 1, "words": []})]]

        def refuse(self: Shape, payload: Any) -> Iterator[None]:
            raise AssertionError("parsed again")

        monkeypatch.setattr(Shape, "difference_of", refuse)
        for shape, payload in shapes:
            for separators in ((",", ":"), (", ", ": ")):
                assert shape.difference(json.dumps(payload, separators=separators)) is None

    @pytest.mark.parametrize(("type", "payload", "path"), UNFIT)
    def test_fault_a3_an_upcast_payload_is_checked_like_a_stored_one(self, type: Any, payload: Any, path: str) -> None:
        found = Shape(type).difference_of(payload)
        assert found is not None
        assert found[0] == path

    def test_fault_a3_a_type_without_a_twin_is_checked_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("es_django.core.shape.twin_decoder", lambda info, is_checked: None)
        assert [difference(type, payload) for type, payload, _ in UNFIT] == [path for _, _, path in UNFIT]
        assert [difference(type, payload) for type, payload in FIT] == [None] * len(FIT)

    def test_fault_a3_a_string_that_looks_like_a_key_is_not_taken_for_one(self) -> None:
        class Noted(Event):
            note: str
            currency: str = "EUR"

            class Meta:
                name = "tests.shape.noted"

        assert difference(Noted, {"note": '"currency": "USD"'}) == "currency"


class TestEvents:
    def test_fault_a3_the_error_names_type_version_and_path(self) -> None:
        with pytest.raises(UndecodableEvent, match=r"tests\.shape\.deep.*money\.curr is stored.*schema version 2.*up"):
            registry.decode(STREAM, 1, "tests.shape.deep", 2, '{"money": {"amount": 1, "currency": "E", "curr": "U"}}')

    def test_fault_a3_an_upcaster_may_return_a_value_object(self) -> None:
        assert Shape(Deep).difference_of({"money": Money(1)}) is None

    def test_fault_a3_the_result_of_an_upcaster_is_checked_too(self) -> None:
        with pytest.raises(UndecodableEvent, match=r"money\.currency is not stored.*schema version 1.*upcaster"):
            registry.decode(STREAM, 1, "tests.shape.deep", 1, '{"price": {"amount": 1}}')

    def test_fault_a3_an_event_of_today_is_read(self) -> None:
        for event in (Deep(money=Money(1)), Deep(), Flat(number=1)):
            pending = PendingEvent(event)
            kind = registry.of(type(event))
            assert registry.decode(STREAM, 1, kind.name, kind.version, pending.data) == [event]
