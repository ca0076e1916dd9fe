"""`is_same`, `changed` and `shared` find differences that `==` does not see."""

from collections import deque
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest

from es_django.core.equality import changed, is_same, shared


class Text(str):
    pass


class Digits(IntEnum):
    ONE = 1


class Pair(NamedTuple):
    one: int
    two: int


class Money(msgspec.Struct):
    amount: Any


@dataclass
class Line:
    amount: Any


class Opaque(msgspec.Struct, eq=False):
    amount: Any


@dataclass(eq=False)
class Handle:
    amount: Any


@dataclass(frozen=True)
class Coin:
    amount: Any


class Note(msgspec.Struct, frozen=True):
    amount: Any


NOON = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))


VALUES: list[Any] = [
    1,
    None,
    1.5,
    "a",
    b"a",
    Decimal("1.50"),
    NOON,
    Digits.ONE,
    [1, [2]],
    {"a": {1: [None]}},
    {8, 0},
    (1, (2,)),
]
VALUES += [frozenset({"a", "b"}), Pair(1, 2), Money([1]), Line({"a": 1}), deque([1]), {1, "a"}]


ITEMS = [1]
MONEY = Money(1)
HANDLE = Handle(1)
OPAQUE = Opaque(1)
COIN = Coin(1)
NOTE = Note(1)


class TestIsSame:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (1, True),
            (1, 1.0),
            (1, Decimal(1)),
            (1, Digits.ONE),
            (0.0, -0.0),
            (Decimal("1.50"), Decimal("1.5")),
            ("a", Text("a")),
            ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
            ({1: "a"}, {True: "a"}),
            ([1], [True]),
            ([1], [1, 2]),
            ((1, 2), Pair(1, 2)),
            (deque([1]), deque([True])),
            ({1}, {True}),
            (frozenset({1}), frozenset({1.0})),
            ({"a": [{"b": (1,)}]}, {"a": [{"b": (True,)}]}),
            (Money(1), Money(1.0)),
            (Money("a"), Money(Text("a"))),
            (Line("a"), Line(Text("a"))),
            (Line([1]), Line([True])),
            (NOON, NOON.astimezone(timezone(timedelta(hours=2)))),
            (Opaque(1), Opaque(1)),
        ],
        ids=repr,
    )
    def test_values_of_different_type_order_or_repr_are_not_the_same(self, one: Any, other: Any) -> None:
        assert not is_same(one, other)
        assert not is_same(other, one)
        assert changed({"name": one}, {"name": other}) == {"name"}

    @pytest.mark.parametrize(
        "value",
        VALUES,
        # The repr of a set depends on the hash seed, and all processes of pytest-xdist need the same ids.
        ids=lambda value: type(value).__name__,
    )
    def test_a_copy_is_the_same_as_its_original(self, value: Any) -> None:
        assert is_same(value, deepcopy(value))
        assert not changed({"name": value}, {"name": deepcopy(value)})

    def test_the_order_of_sets_is_ignored(self) -> None:
        one, other = {0, 8}, {8, 0}
        assert list(one) != list(other)
        assert is_same(one, other)


class TestChanged:
    def test_a_name_that_only_one_mapping_has_is_changed(self) -> None:
        assert changed({"a": None, "b": 1}, {"b": 1, "c": None}) == {"a", "c"}


class TestShared:
    @pytest.mark.parametrize(
        ("values", "names"),
        [
            ({"a": ITEMS, "b": ITEMS, "c": [1]}, {"a", "b"}),
            ({"a": [ITEMS, ITEMS], "b": [1]}, {"a"}),
            ({"a": {"x": (ITEMS,)}, "b": Line(ITEMS), "c": 1}, {"a", "b"}),
            ({"a": MONEY, "b": deque([MONEY])}, {"a", "b"}),
            ({"a": Money(ITEMS), "b": ITEMS}, {"a", "b"}),
            ({"a": HANDLE, "b": [HANDLE], "c": Handle(1)}, {"a", "b"}),
            ({"a": (OPAQUE,), "b": {"x": OPAQUE}}, {"a", "b"}),
            ({"a": Coin(HANDLE), "b": HANDLE}, {"a", "b"}),
            ({"a": COIN, "b": COIN, "c": NOTE, "d": (NOTE,)}, set()),
            ({"a": [1], "b": [1]}, set()),
            ({"a": "text", "b": "text", "c": None, "d": None}, set()),
            ({"a": Pair(1, 2), "b": [Pair(1, 2)]}, set()),
        ],
    )
    def test_mutable_objects_that_occur_twice_are_shared(self, values: dict[str, Any], names: set[str]) -> None:
        assert shared(values) == names

    def test_immutable_objects_are_not_shared(self) -> None:
        pair, frozen = Pair(1, 2), frozenset({1})
        assert not shared({"a": pair, "b": [pair, frozen], "c": frozen})
