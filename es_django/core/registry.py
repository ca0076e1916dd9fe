"""The registry of event classes: stored names, schema versions and upcasters.

The registry decodes stored payloads. It raises a `ReplayError` for a payload that it cannot decode, and never guesses.
"""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, NoReturn

import msgspec

from es_django.core.errors import DefinitionError, PayloadError
from es_django.core.mutability import is_mutable
from es_django.core.options import meta_options
from es_django.core.replay_errors import (
    MissingUpcaster,
    UndecodableEvent,
    UnknownEventType,
    UnsupportedEventVersion,
    UpcastError,
)
from es_django.core.shape import Difference, Shape
from es_django.core.streams import StreamId, require_name
from es_django.core.validation import require_count

Upcaster = Callable[[dict[str, Any]], "dict[str, Any] | list[dict[str, Any]]"]


class EventType:
    """One event class as it is stored: its names, its schema version and its upcasters."""

    def __init__(self, cls: type[msgspec.Struct]) -> None:
        options = meta_options(cls, {"name", "version", "aliases", "sensitive"})
        self.cls = cls
        self.name: str = options.get("name", cls.__name__)
        self.version: int = options.get("version", 1)
        aliases = options.get("aliases", ())
        if isinstance(aliases, str):
            raise DefinitionError(f"{cls.__qualname__}.Meta.aliases must be a tuple of names, got {aliases!r}")
        self.aliases: tuple[str, ...] = tuple(aliases)
        self.sensitive: frozenset[str] = _sensitive_fields(cls)
        self.upcasters: dict[int, Upcaster] = {}
        for name in (self.name, *self.aliases):
            require_name(f"{cls.__qualname__}.Meta: a name or alias", name, DefinitionError)
        require_count(f"{cls.__qualname__}.Meta.version", self.version, DefinitionError)

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        # A class registers itself before its fields are defined, so the decoder is built on first use.
        return msgspec.json.Decoder(self.cls)

    @cached_property
    def _shape(self) -> Shape | None:
        """The keys that a payload must have, or None if the decoder already proves them."""
        shape = Shape(self.cls)
        return None if shape.is_certain else shape

    def round_trip(self, event: Any, data: str) -> Any:
        """Decode `data`, which is `event` as JSON.

        Raise `PayloadError` unless the result equals `event` and the stored event can be read.
        """
        try:
            decoded = self._decoder.decode(data)
        except msgspec.MsgspecError as error:
            # msgspec says: Expected `int`, got `str` - at `$.amount`
            reason, _, field = str(error).replace("`", "").partition(" - at $")
            raise PayloadError(self.name, field.removeprefix("."), reason[:1].lower() + reason[1:]) from error
        try:
            is_equal = decoded == event
        except ArithmeticError as error:
            raise PayloadError(self.name, "", "contains a signalling NaN, which cannot be compared") from error
        if not is_equal:
            changed = [name for name in event.__struct_fields__ if getattr(event, name) != getattr(decoded, name)]
            raise PayloadError(self.name, ", ".join(changed), "would be read back as a different value")
        if self._shape is not None and (difference := self._shape.difference(data)):
            raise PayloadError(self.name, *difference)
        return decoded

    @cached_property
    def is_mutable(self) -> bool:
        """Whether an event of this class has a part that can be changed, such as a list."""
        return is_mutable(self.cls)

    def decode_own(self, data: str) -> Any:
        """Decode a payload that `round_trip` has accepted."""
        return self._decoder.decode(data)

    def copy(self, event: Any) -> Any:
        """Return an event that shares no mutable part with `event`. An event without such parts is its own copy."""
        return self._decoder.decode(msgspec.json.encode(event)) if self.is_mutable else event

    @cached_property
    def sensitive_keys(self) -> frozenset[str]:
        """The names of the sensitive fields, both as attributes and as payload keys."""
        encoded = dict(zip(self.cls.__struct_fields__, self.cls.__struct_encode_fields__, strict=True))
        return self.sensitive | {encoded[name] for name in self.sensitive & encoded.keys()}

    @property
    def unknown_sensitive(self) -> list[str]:
        """The names in Meta.sensitive that are not fields. Empty above version 1: older versions had other fields."""
        return sorted(self.sensitive - {*self.cls.__struct_fields__}) if self.version == 1 else []

    @property
    def path(self) -> str:
        return f"{self.cls.__module__}.{self.cls.__qualname__}"

    @property
    def missing_upcasters(self) -> list[int]:
        """The schema versions below the current one that have no upcaster."""
        return [version for version in range(1, self.version) if version not in self.upcasters]

    def decode(self, data: str, schema_version: int) -> list[Any]:
        if schema_version == self.version:
            event = self._decoder.decode(data)
            if self._shape is not None and (difference := self._shape.difference(data)):
                raise _OtherShape(self, schema_version, difference)
            return [event]
        payloads = [msgspec.json.decode(data)]
        for version in range(schema_version, self.version):
            payloads = [result for payload in payloads for result in self._upcast(payload, version)]
        events = [msgspec.convert(payload, type=self.cls, str_keys=True) for payload in payloads]
        for payload in payloads:
            if self._shape is not None and (difference := self._shape.difference_of(payload)):
                raise _OtherShape(self, schema_version, difference)
        return events

    def _upcast(self, payload: dict[str, Any], version: int) -> list[dict[str, Any]]:
        try:
            return _as_list(self.upcasters[version](payload))
        except Exception as error:
            raise _UpcasterFailed from error


def _sensitive_fields(cls: type[msgspec.Struct]) -> frozenset[str]:
    """Return the sensitive fields of the class and of its bases."""
    fields: set[str] = set()
    for base in cls.__mro__:
        names = getattr(vars(base).get("Meta"), "sensitive", ())
        if not isinstance(names, set | frozenset | tuple | list) or not all(isinstance(name, str) for name in names):
            raise DefinitionError(f"{base.__qualname__}.Meta.sensitive must be a set of field names, got {names!r}")
        fields.update(names)
    return frozenset(fields)


class _UpcasterFailed(Exception):
    """The wrapper around an upcaster's error, which distinguishes it from an error of the decoder."""


class _OtherShape(Exception):
    """The payload has a key that the class does not have, or lacks a key for which a default would stand in."""

    def __init__(self, event_type: EventType, schema_version: int, difference: Difference) -> None:
        path, reason = difference
        remedy = (
            f"raise Meta.version of {event_type.cls.__name__} and add an upcaster"
            if schema_version == event_type.version
            else "let an upcaster give the payload the keys of the current class"
        )
        super().__init__(f"{path} {reason} (schema version {schema_version}): {remedy}")


def _as_list(upcast: dict[str, Any] | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return upcast if isinstance(upcast, list) else [upcast]


class EventRegistry:
    """All event classes by stored name.

    If two classes claim one name, the system check reports the conflict, and using the name raises `DefinitionError`.
    """

    def __init__(self) -> None:
        self._by_class: dict[type[msgspec.Struct], EventType] = {}
        self._by_name: dict[str, dict[str, EventType]] = {}
        self.revision = 0
        """A number that increases whenever an upcaster is registered."""

    def register(self, cls: type[msgspec.Struct]) -> None:
        event_type = EventType(cls)
        self._by_class[cls] = event_type
        for name in (event_type.name, *event_type.aliases):
            # The key is the class path, so that importing a module again replaces the classes of that module.
            self._by_name.setdefault(name, {})[event_type.path] = event_type

    def of(self, cls: type[msgspec.Struct]) -> EventType:
        """Return the type of an event class.

        Raise `DefinitionError` if `cls` is not a subclass of Event, or if another class claims its name.
        """
        event_type = self._by_class.get(cls)
        if event_type is None:
            raise DefinitionError(f"{cls!r} is not a subclass of Event")
        if len(self._by_name[event_type.name]) > 1:
            self._raise_name_conflict(event_type.name)
        return event_type

    def stored_names(self, classes: Iterable[type[msgspec.Struct]]) -> list[str]:
        """Return every name under which events of these classes may be stored."""
        types = [self.of(cls) for cls in classes]
        return sorted({name for event_type in types for name in (event_type.name, *event_type.aliases)})

    def sensitive_keys(self, type: str | None = None) -> frozenset[str]:
        """Return the sensitive payload keys of the events stored as `type`, or of all events if it is unknown."""
        claims = self._by_name.get(type or "", {}).values() or self._by_class.values()
        return frozenset().union(*(event_type.sensitive_keys for event_type in claims))

    def types(self) -> Iterable[EventType]:
        return self._by_class.values()

    def conflicts(self) -> dict[str, list[str]]:
        """Return each name that several classes claim, with the paths of those classes."""
        return {name: sorted(claims) for name, claims in self._by_name.items() if len(claims) > 1}

    def decode(self, stream: StreamId, version: int, type: str, schema_version: int, data: str) -> list[Any]:
        """Decode a stored payload into events of the current classes: one event, or as many as its upcasters return.

        Raise a subclass of `ReplayError` that names the reason.
        """
        event_type = self._named(type)
        if event_type is None:
            reason = (
                f"no event class is named {type!r}; import its module, add {type!r} to Meta.aliases of its class, or "
                "deploy the code that wrote it"
            )
            raise UnknownEventType(stream, version, type, reason)
        if schema_version > event_type.version:
            reason = (
                f"its schema version {schema_version} is newer than version {event_type.version} of "
                f"{event_type.path}; deploy the code that wrote it"
            )
            raise UnsupportedEventVersion(stream, version, type, reason)
        # Events of the current version skip this check: missing_upcasters takes as long as decoding.
        for missing in event_type.missing_upcasters if schema_version < event_type.version else ():
            if missing >= schema_version:
                reason = f"an upcaster is missing; add @upcasts({event_type.cls.__name__}, from_version={missing})"
                raise MissingUpcaster(stream, version, type, reason)
        try:
            return event_type.decode(data, schema_version)
        except _UpcasterFailed as error:
            cause = error.__cause__
            raise UpcastError(stream, version, type, f"an upcaster raised {cause!r}") from cause
        except Exception as error:
            raise UndecodableEvent(stream, version, type, str(error)) from error

    def _named(self, name: str) -> EventType | None:
        claims = self._by_name.get(name)
        if claims is None:
            return None
        if len(claims) > 1:
            self._raise_name_conflict(name)
        return next(iter(claims.values()))

    def _raise_name_conflict(self, name: str) -> NoReturn:
        raise DefinitionError(
            f"{' and '.join(sorted(self._by_name[name]))} are both stored as {name!r}: "
            "give one of them another Meta.name"
        )


registry: EventRegistry = EventRegistry()
