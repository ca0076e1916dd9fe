"""An aggregate's state as JSON, and back: a cache that is ignored wherever it might not fit.

A snapshot carries a schema: a digest of the state's fields, types and initial values, of the events that make it with
their upcasters, and of the code of the aggregate class. When one of these changes, older snapshots are passed over.
What it cannot see is a change in other code that the class calls: delete the snapshots then.
"""

import hashlib
import logging
from types import CodeType
from typing import Any, ClassVar, get_origin, get_type_hints

import msgspec

from es_django.aggregates import Aggregate
from es_django.errors import EsDjangoError, ImproperlyConfigured
from es_django.events import registry
from es_django.payloads import encode_payload

logger = logging.getLogger("es_django.snapshots")

_SIMPLE = (str, int, float, bool, bytes, type(None), tuple, frozenset)


class SnapshotCodec:
    """Encodes and decodes the state of one aggregate class.

    Raises `ImproperlyConfigured` if an annotated attribute is of a type that JSON cannot hold.
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
            raise ImproperlyConfigured(f"{aggregate.__qualname__} cannot have snapshots: {error}") from error
        self.schema = f"{aggregate.category[:200]}:{_digest(aggregate, described)}"

    def encode(self, state: dict[str, Any]) -> str | None:
        """The state as JSON; None, with a warning, if it would not come back as it is."""
        if undeclared := state.keys() - self._names:
            logger.warning("no snapshot of %s: %s not annotated", self.schema, ", ".join(sorted(undeclared)))
            return None
        try:
            encoded = encode_payload(self._state(**state), self.schema)
        except EsDjangoError as error:
            logger.warning("no snapshot of %s: %s", self.schema, error)
            return None
        if self.decode(encoded) != state:
            logger.warning("no snapshot of %s: the state reads back as another one", self.schema)
            return None
        return encoded

    def decode(self, encoded: str) -> dict[str, Any] | None:
        """The state; None if it does not decode."""
        try:
            state = msgspec.json.decode(encoded, type=self._state)
        except msgspec.MsgspecError:
            return None
        return {name: value for name in self._names if (value := getattr(state, name)) is not msgspec.UNSET}


def _digest(aggregate: type[Aggregate], described: bytes) -> str:
    digest = hashlib.sha256(described)
    digest.update(repr(sorted(aggregate._initial_state.items())).encode())
    for event_type in sorted(map(registry.of, aggregate._appliers), key=lambda event_type: event_type.name):
        digest.update(f"{event_type.name} {event_type.version}".encode())
        for _, upcaster in sorted(event_type.upcasters.items()):
            _add_code(digest, upcaster.__code__)
    for cls in aggregate.__mro__[: aggregate.__mro__.index(Aggregate)]:
        for name, member in sorted(vars(cls).items(), key=lambda item: item[0]):
            code = getattr(getattr(member, "__func__", member), "__code__", None)
            if isinstance(code, CodeType):
                digest.update(name.encode())
                _add_code(digest, code)
    return digest.hexdigest()[:32]


def _add_code(digest: Any, code: CodeType) -> None:
    digest.update(code.co_code)
    digest.update(repr(code.co_names).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _add_code(digest, constant)
        elif isinstance(constant, _SIMPLE):
            digest.update(repr(constant).encode())
