"""Compare values more strictly than `==`, to check that a stored value was read back unchanged.

`==` treats 1, True and 1.0 as equal, and dicts whatever their order. `==` also cannot tell whether two attributes hold
the same list or two equal lists. Code that uses the value that was read back can then give different results.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec


def is_same(one: Any, other: Any) -> bool:
    """Return whether both values are equal and all their parts have the same types, order and repr."""
    return bool(one == other) and _is_alike(one, other)


def _is_alike(one: Any, other: Any) -> bool:
    """Return whether two equal values have the same types, order and repr. Equal values have equally many parts."""
    if type(one) is not type(other):
        return False
    parts = _parts(one)
    if parts is None:
        return repr(one) == repr(other)
    return all(map(_is_alike, parts, _parts(other) or ()))


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Return the names whose values differ, and the names that only one of the mappings has."""
    return {
        name
        for name in before.keys() | after.keys()
        if name not in before or name not in after or not is_same(before[name], after[name])
    }


def shared(values: Mapping[str, Any]) -> set[str]:
    """Return the names of the values that share a mutable object with another value, or hold one object twice."""
    found = [(name, part) for name, value in values.items() for part in _mutable_parts(value)]
    occurrences = Counter(id(part) for _, part in found)
    return {name for name, part in found if occurrences[id(part)] > 1}


def _mutable_parts(value: Any) -> Iterator[Any]:
    if _is_mutable(value):
        yield value
    for part in _parts(value) or ():
        yield from _mutable_parts(part)


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
    """Return the parts of a value, or None if the value has no parts."""
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
