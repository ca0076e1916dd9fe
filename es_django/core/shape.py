"""Find the keys of a stored payload that its type does not have, and the fields that it lacks.

msgspec ignores unknown keys in nested values, and fills a missing field with its default. Both change what an event
says, in silence. So a payload must have exactly the keys that today's code writes, at any depth.
"""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeAlias

import msgspec
from msgspec import inspect

from es_django.core.twins import ITEM_TYPES, OBJECT_TYPES, Object, always_written, twin_decoder

Difference = tuple[str, str]
"""A path such as `lines[0].price.currency`, and the reason."""

Check: TypeAlias = Callable[[Any, str], Iterator[Difference]]


class Shape:
    """The keys that a type gives to its JSON. The work is done once per type. Types without defaults need no check."""

    def __init__(self, type: Any) -> None:
        self._info = inspect.type_info(type)
        self._checks: dict[int, Check | None] = {}
        self._check = self._compiled(self._info)
        twin = twin_decoder(self._info, lambda info: self._compiled(info) is not None)
        self._prove: Callable[[str | bytes], object] = _prove_nothing if twin is None else twin.decode

    @property
    def is_certain(self) -> bool:
        """Whether all that msgspec decodes as this type has the keys of the type, so that no check is needed."""
        return self._check is None

    def difference(self, text: str) -> Difference | None:
        """Return the first difference between the JSON in `text` and the type, or None if they are alike."""
        try:
            self._prove(text)
        except msgspec.MsgspecError:
            return self.difference_of(msgspec.json.decode(text))
        return None

    def difference_of(self, payload: Any) -> Difference | None:
        """Return the first difference between a decoded payload and the type, or None if they are alike."""
        try:
            self._prove(msgspec.json.encode(payload))
        except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
            # Only the slow check finds the path. It also checks the types that have no twin.
            return None if self._check is None else next(self._check(payload, ""), None)
        return None

    def _compiled(self, info: inspect.Type) -> Check | None:
        """Return a function that yields the differences of a payload of this type, or None if there can be none."""
        key = id(info)
        if key not in self._checks:
            # A recursive type refers to itself. Until its check exists, refer to the check by name.
            self._checks[key] = lambda raw, path: (self._checks[key] or _no_differences)(raw, path)
            self._checks[key] = self._compile(info)
        return self._checks[key]

    def _compile(self, info: inspect.Type) -> Check | None:
        if isinstance(info, inspect.Metadata):
            return self._compiled(info.type)
        if isinstance(info, inspect.UnionType):
            return self._union(info)
        if isinstance(info, inspect.NamedTupleType) or (isinstance(info, inspect.StructType) and info.array_like):
            return self._array(info)
        if isinstance(info, OBJECT_TYPES):
            return self._object(info)
        if isinstance(info, inspect.DictType):
            return _each(self._compiled(info.value_type), _entries)
        if isinstance(info, ITEM_TYPES):
            return _each(self._compiled(info.item_type), _items)
        if isinstance(info, inspect.TupleType):
            return _by_index([self._compiled(each) for each in info.item_types], 0)
        return None

    def _object(self, info: Object) -> Check | None:
        known = {field.encode_name for field in info.fields}
        checks = {
            field.encode_name: inner for field in info.fields if (inner := self._compiled(field.type)) is not None
        }
        needed = {field.encode_name for field in always_written(info)}
        if not checks and not needed and isinstance(info, inspect.StructType) and info.forbid_unknown_fields:
            return None
        if isinstance(info, inspect.StructType) and info.tag_field is not None:
            known.add(info.tag_field)
        name = info.cls.__qualname__

        def check(raw: Any, path: str) -> Iterator[Difference]:
            if not isinstance(raw, dict):
                return
            for key in raw.keys() - known:
                yield _joined(path, str(key)), f"is stored, but {name} has no such field"
            for key in needed - raw.keys():
                yield _joined(path, key), f"is not stored, and the default of {name} must not stand in for it"
            for key, inner in checks.items():
                if key in raw:
                    yield from inner(raw[key], _joined(path, key))

        return check

    def _array(self, info: inspect.StructType | inspect.NamedTupleType) -> Check | None:
        tag = isinstance(info, inspect.StructType) and info.tag_field is not None
        first, name = int(tag), info.cls.__qualname__
        inner = _by_index([self._compiled(field.type) for field in info.fields], first)
        length = first + len(info.fields)
        if inner is None and isinstance(info, inspect.NamedTupleType) and all(each.required for each in info.fields):
            return None

        def check(raw: Any, path: str) -> Iterator[Difference]:
            if not isinstance(raw, list | tuple):
                return
            for index in range(length, len(raw)):
                yield f"{path}[{index}]", f"is stored, but {name} has no such field"
            for field in info.fields[max(len(raw) - first, 0) :]:
                yield _joined(path, field.name), f"is not stored, and the default of {name} must not stand in for it"
            if inner is not None:
                yield from inner(raw, path)

        return check

    def _union(self, info: inspect.UnionType) -> Check | None:
        """msgspec allows one kind of array and one kind of object in a union, or several structs that a tag tells."""
        members = [each.type if isinstance(each, inspect.Metadata) else each for each in info.types]
        tagged = {
            each.tag: inner
            for each in members
            if isinstance(each, inspect.StructType) and each.tag is not None and (inner := self._compiled(each))
        }
        others = [
            inner
            for each in members
            if not (isinstance(each, inspect.StructType) and each.tag is not None) and (inner := self._compiled(each))
        ]
        fields = {each.tag_field for each in members if isinstance(each, inspect.StructType)} - {None}
        if not tagged and not others:
            return None

        def check(raw: Any, path: str) -> Iterator[Difference]:
            for field in fields:
                tag = raw.get(field) if isinstance(raw, dict) else raw[0] if isinstance(raw, list) and raw else None
                if isinstance(tag, str | int) and tag in tagged:
                    yield from tagged[tag](raw, path)
                    return
            if fields and not others and len(tagged) == 1:
                # A single struct is also read without its tag.
                yield from next(iter(tagged.values()))(raw, path)
            for other in others:
                yield from other(raw, path)

        return check


def _each(check: Check | None, parts: Callable[[Any, str], Iterator[tuple[Any, str]]]) -> Check | None:
    if check is None:
        return None

    def check_each(raw: Any, path: str) -> Iterator[Difference]:
        for part, where in parts(raw, path):
            yield from check(part, where)

    return check_each


def _entries(raw: Any, path: str) -> Iterator[tuple[Any, str]]:
    for key, value in raw.items() if isinstance(raw, dict) else ():
        yield value, f"{path}[{key!r}]"


def _items(raw: Any, path: str) -> Iterator[tuple[Any, str]]:
    for index, value in enumerate(raw if isinstance(raw, list | tuple | set | frozenset) else ()):
        yield value, f"{path}[{index}]"


def _by_index(checks: list[Check | None], first: int) -> Check | None:
    wanted = [(index, check) for index, check in enumerate(checks, first) if check is not None]
    if not wanted:
        return None

    def check_each(raw: Any, path: str) -> Iterator[Difference]:
        for index, check in wanted:
            if isinstance(raw, list | tuple) and index < len(raw):
                yield from check(raw[index], f"{path}[{index}]")

    return check_each


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _no_differences(raw: Any, path: str) -> Iterator[Difference]:
    yield from ()


def _prove_nothing(text: str | bytes) -> NoReturn:
    raise msgspec.ValidationError
