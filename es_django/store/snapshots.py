"""An aggregate's state as JSON, and back.

A snapshot is a cache: code with another schema ignores it. The schema is a digest of `Meta.snapshot_version`, and of
the names and types of the fields of the state and of the applied events. The schema does not depend on the code of the
@applies methods. So increase `snapshot_version` when changed code computes a different state from the same events. If
this was forgotten, `es_verify` finds the wrong snapshots.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, get_origin, get_type_hints

import msgspec

from es_django.core.aggregates import Aggregate
from es_django.core.equality import changed, shared
from es_django.core.errors import DefinitionError, EsDjangoError
from es_django.core.logs import Log
from es_django.core.registry import EventType, registry
from es_django.core.serialization import encode_payload
from es_django.core.shape import Shape

logger: Log = Log("es_django.snapshots")

_WITHOUT_EFFECT: Final = frozenset({"title", "description", "examples", "default", "required"})
"""Parts of a JSON schema that come from docstrings and default values, which do not change the stored JSON."""


class SnapshotCodec:
    """Encodes and decodes the state of one aggregate class.

    Raise `DefinitionError` if JSON cannot hold the type of an annotated attribute.
    """

    def __init__(self, aggregate: type[Aggregate]) -> None:
        hints = {
            name: hint for name, hint in get_type_hints(aggregate).items() if ClassVar not in (hint, get_origin(hint))
        }
        self._types = {name: _json_type(aggregate, hint) for name, hint in hints.items()}
        fields = [(name, hint | msgspec.UnsetType, msgspec.UNSET) for name, hint in hints.items()]
        self._state = msgspec.defstruct("State", fields, forbid_unknown_fields=True)
        self._shape = Shape(self._state)
        self._aggregate = aggregate
        self._cached_schema: tuple[int, str] | None = None

    @property
    def schema(self) -> str:
        """The name of the schema. An upcaster that is registered later changes it.

        Raise `DefinitionError` if JSON cannot hold a field of an event, or if two classes claim the name of an event.
        """
        revision = registry.revision
        if self._cached_schema is None or self._cached_schema[0] != revision:
            self._cached_schema = (revision, _schema(self._aggregate, self._types))
        return self._cached_schema[1]

    def encode(self, state: dict[str, Any]) -> str | None:
        """Return the state as JSON. Log a warning and return None if decoding would give a different state."""
        if undeclared := state.keys() - self._types.keys():
            self._warn(f"without a type annotation in the class: {_listed(undeclared)}")
            return None
        try:
            encoded = encode_payload(self._state(**state), self.schema)
        except EsDjangoError as error:
            self._warn(str(error))
            return None
        # This check comes after the encoding, because the encoder detects endless nesting.
        if twice := shared(state):
            self._warn(f"a mutable value that occurs twice would come back as two copies: {_listed(twice)}")
            return None
        if others := changed(state, self.decode(encoded) or {}):
            self._warn(f"would come back as a different value: {_listed(others)}")
            return None
        return encoded

    def _warn(self, reason: str) -> None:
        category = self._aggregate.category
        logger.warning(
            "aggregates of category %s get no snapshot, so each load replays all their events: %s",
            category,
            reason,
            extra={"category": category},
        )

    def decode(self, encoded: str) -> dict[str, Any] | None:
        """Return the state, or None if the JSON does not match the annotations of the class."""
        try:
            state = msgspec.json.decode(encoded, type=self._state)
        except msgspec.MsgspecError:
            return None
        if self._shape.difference(encoded):
            return None
        return {name: value for name in self._types if (value := getattr(state, name)) is not msgspec.UNSET}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _schema(aggregate: type[Aggregate], state: Mapping[str, Any]) -> str:
    events = {event.name: _event_shape(aggregate, event) for event in map(registry.of, aggregate._appliers)}
    shape = {"version": aggregate.snapshot_version, "state": state, "events": events}
    digest = hashlib.sha256(msgspec.json.encode(shape, order="sorted")).hexdigest()
    return f"{aggregate.category[:200]}:{digest[:32]}"


def _event_shape(aggregate: type[Aggregate], event: EventType) -> dict[str, Any]:
    fields = {
        field.name: [field.encode_name, _json_type(aggregate, field.type)]
        for field in msgspec.structs.fields(event.cls)
    }
    return {"version": event.version, "upcast from": sorted(event.upcasters), "fields": fields}


def _json_type(aggregate: type[Aggregate], hint: Any) -> Any:
    try:
        schema = msgspec.json.schema(hint)
    except TypeError as error:
        reason = str(error).rsplit("\n", 1)[-1]  # the earlier lines are about msgspec's own options
        raise DefinitionError(f"{aggregate.__qualname__} cannot have snapshots: {reason}") from error
    return _without_defaults(schema)


def _without_defaults(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_defaults(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        # The keys of `properties` and `$defs` are the names of fields and classes.
        key: {name: _without_defaults(each) for name, each in value.items()}
        if key in ("properties", "$defs")
        else _without_defaults(value)
        for key, value in schema.items()
        if key not in _WITHOUT_EFFECT
    }
