"""Whether a value has come back as it was, told more closely than `==` does.

For `==` 1, True and 1.0 are one, so are dicts of different order, and two lists that were one list before. Code that
goes on from such values would come to other results.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec


def is_same(one: Any, other: Any) -> bool:
    """Whether both are equal, of the same types, in the same order and look the same, all the way down."""
    return bool(one == other) and _is_alike(one, other)


def _is_alike(one: Any, other: Any) -> bool:
    """Of two that are equal, and so have as many parts."""
    if type(one) is not type(other):
        return False
    parts = _parts(one)
    if parts is None:
        return repr(one) == repr(other)
    return all(map(_is_alike, parts, _parts(other) or ()))


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """The names that stand for something else in `after`, or in one of both only."""
    return {
        name
        for name in before.keys() | after.keys()
        if name not in before or name not in after or not is_same(before[name], after[name])
    }


def shared(values: Mapping[str, Any]) -> set[str]:
    """The names of the values that hold something mutable which is held a second time by any of them."""
    holders = [(name, held) for name, value in values.items() for held in _mutable(value)]
    times = Counter(id(held) for _, held in holders)
    return {name for name, held in holders if times[id(held)] > 1}


def _mutable(value: Any) -> Iterator[Any]:
    if _is_mutable(value):
        yield value
    for part in _parts(value) or ():
        yield from _mutable(part)


def _is_mutable(value: Any) -> bool:
    if isinstance(value, msgspec.Struct):
        return not value.__struct_config__.frozen
    if is_dataclass(value):
        return not vars(type(value))["__dataclass_params__"].frozen
    try:
        hash(value)
    except TypeError:
        return True
    return False


def _parts(value: Any) -> Sequence[Any] | None:
    """What a value is made of; None if it is one piece."""
    if isinstance(value, Mapping):
        return [part for item in value.items() for part in item]
    if isinstance(value, list | tuple | deque):
        return value
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, msgspec.Struct):
        return [getattr(value, name) for name in value.__struct_fields__]
    if is_dataclass(value):
        return [getattr(value, field.name) for field in fields(value)]
    return None
