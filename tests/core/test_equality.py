"""What `==` takes for one and the same, and is not."""

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
def test_what_another_type_order_or_look_tells_apart_is_not_the_same(one: Any, other: Any) -> None:
    assert not is_same(one, other)
    assert not is_same(other, one)
    assert changed({"name": one}, {"name": other}) == {"name"}


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


@pytest.mark.parametrize(
    "value",
    VALUES,
    # The repr of a set depends on the hash seed of the process, and all processes of pytest-xdist need the same ids.
    ids=lambda value: type(value).__name__,
)
def test_a_copy_is_the_same(value: Any) -> None:
    assert is_same(value, deepcopy(value))
    assert not changed({"name": value}, {"name": deepcopy(value)})


def test_a_set_has_no_order() -> None:
    one, other = {0, 8}, {8, 0}
    assert list(one) != list(other)
    assert is_same(one, other)


def test_a_name_on_one_side_has_changed() -> None:
    assert changed({"a": None, "b": 1}, {"b": 1, "c": None}) == {"a", "c"}


ITEMS = [1]
MONEY = Money(1)
HANDLE = Handle(1)
OPAQUE = Opaque(1)
COIN = Coin(1)
NOTE = Note(1)


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
def test_only_what_is_mutable_and_held_twice_is_shared(values: dict[str, Any], names: set[str]) -> None:
    assert shared(values) == names


def test_what_cannot_change_may_be_held_twice() -> None:
    pair, frozen = Pair(1, 2), frozenset({1})
    assert not shared({"a": pair, "b": [pair, frozen], "c": frozen})
