"""An aggregate's state as JSON, and back: a cache that is ignored wherever it might not fit.

A snapshot carries a schema: a digest of the state's fields and types, of the events that make it with their fields and
upcasters, and of what the classes of both and their bases hold: code, default arguments, initial values and constants.
When one of these changes, older snapshots are passed over. What it cannot see is a change in other code that a class
calls, such as a function or a constant of a module: delete the snapshots then.
"""

import hashlib
import logging
import re
from collections.abc import Iterable
from types import CodeType
from typing import Any, ClassVar, get_origin, get_type_hints

import msgspec

from es_django.core.aggregates import Aggregate
from es_django.core.equality import changed, shared
from es_django.core.errors import DefinitionError, EsDjangoError
from es_django.core.events import Event
from es_django.core.registry import registry
from es_django.core.serialization import encode_payload

logger: logging.Logger = logging.getLogger("es_django.snapshots")

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_CODE = ("__code__", "__defaults__", "__kwdefaults__", "__wrapped__", "fget", "fset")
_PARTIAL = ("func", "args", "keywords")


class SnapshotCodec:
    """Encodes and decodes the state of one aggregate class.

    Raises `DefinitionError` if an annotated attribute is of a type that JSON cannot hold.
    """

    def __init__(self, aggregate: type[Aggregate]) -> None:
        hints = {
            name: hint
            for name, hint in get_type_hints(aggregate).items()
            if get_origin(hint) is not ClassVar and name not in vars(Aggregate).get("__annotations__", {})
        }
        fields = [(name, hint | msgspec.UnsetType, msgspec.UNSET) for name, hint in hints.items()]
        self._names = frozenset(hints)
        self._state = msgspec.defstruct(f"{aggregate.__name__}State", fields, forbid_unknown_fields=True)
        try:
            described = msgspec.json.encode(msgspec.json.schema(self._state))
        except TypeError as error:
            raise DefinitionError(f"{aggregate.__qualname__} cannot have snapshots: {error}") from error
        self._aggregate = aggregate
        self._described = described
        self._digested: tuple[int, str] | None = None

    @property
    def schema(self) -> str:
        """The schema of now: an upcaster that is registered later makes another one."""
        revision = registry.revision
        if self._digested is None or self._digested[0] != revision:
            schema = f"{self._aggregate.category[:200]}:{_digest(self._aggregate, self._described)}"
            self._digested = (revision, schema)
        return self._digested[1]

    def encode(self, state: dict[str, Any]) -> str | None:
        """The state as JSON; None, with a warning, if it would not come back as it is."""
        if undeclared := state.keys() - self._names:
            self._warn(f"{_listed(undeclared)} not annotated")
            return None
        try:
            encoded = encode_payload(self._state(**state), self.schema)
        except EsDjangoError as error:
            self._warn(str(error))
            return None
        # After encoding, which finds what is nested without end.
        if twice := shared(state):
            self._warn(f"{_listed(twice)} would come back as copies of a mutable value that is held twice")
            return None
        if others := changed(state, self.decode(encoded) or {}):
            self._warn(f"{_listed(others)} would come back as another value")
            return None
        return encoded

    def _warn(self, reason: str) -> None:
        logger.warning("no snapshot of %s: %s", self.schema, reason, extra={"category": self._aggregate.category})

    def decode(self, encoded: str) -> dict[str, Any] | None:
        """The state; None if it does not decode."""
        try:
            state = msgspec.json.decode(encoded, type=self._state)
        except msgspec.MsgspecError:
            return None
        return {name: value for name in self._names if (value := getattr(state, name)) is not msgspec.UNSET}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _digest(aggregate: type[Aggregate], described: bytes) -> str:
    digest = hashlib.sha256(described)
    for event_type in sorted(map(registry.of, aggregate._appliers), key=lambda event_type: event_type.name):
        upcasters = _essence(sorted(event_type.upcasters.items()))
        digest.update(f"{event_type.name} {event_type.version} {upcasters} {_fields(event_type.cls)}".encode())
        digest.update(_members(event_type.cls, Event))
    digest.update(_members(aggregate, Aggregate))
    return digest.hexdigest()[:32]


def _fields(event: type[msgspec.Struct]) -> str:
    return _essence(
        [
            (each.name, each.encode_name, str(msgspec.inspect.type_info(each.type)), each.default, each.default_factory)
            for each in msgspec.structs.fields(event)
        ]
    )


def _members(subclass: type, base: type) -> bytes:
    return "".join(
        f"{name} {_essence(member)}"
        for cls in subclass.__mro__
        if cls not in base.__mro__
        for name, member in sorted(vars(cls).items(), key=lambda item: item[0])
        if _counts(name, member)
    ).encode()


def _counts(name: str, member: object) -> bool:
    if name.startswith("__"):
        return callable(member)
    return name not in Aggregate.__annotations__


def _essence(value: Any) -> str:
    """The same text in every process for what works the same; a repr tells of addresses and of the order of sets."""
    parts: list[str]
    if isinstance(value, type):
        parts = [value.__module__, value.__qualname__]
    elif isinstance(value, CodeType):
        code = [value.co_code.hex(), *value.co_names, *value.co_varnames]
        parts = [*code, *map(_essence, value.co_consts)]
    elif isinstance(value, set | frozenset):
        parts = sorted(map(_essence, value))
    elif isinstance(value, dict):
        parts = [_essence(each) for item in value.items() for each in item]
    elif isinstance(value, list | tuple):
        parts = [_essence(each) for each in value]
    else:
        parts = [f"{name}={_essence(getattr(value, name))}" for name in _CODE + _PARTIAL if hasattr(value, name)]
        parts = parts or [_ADDRESS.sub("", repr(value))]
    return f"{type(value).__name__}({', '.join(parts)})"
