"""What is known of every event class: the names under which it is stored, its schema version, and the steps up to it.

Nothing here knows Django. What cannot be read as what it was raises a `ReplayError`; nothing is guessed.
"""

import inspect
from collections.abc import Callable, Iterable
from functools import cached_property
from types import FunctionType
from typing import Any, NoReturn, TypeVar

import msgspec

from es_django.core.errors import DefinitionError, PayloadError
from es_django.core.options import meta_options
from es_django.core.replay_errors import (
    MissingUpcaster,
    UndecodableEvent,
    UnknownEventType,
    UnsupportedEventVersion,
    UpcastError,
)
from es_django.core.streams import StreamId, require_name

Upcaster = Callable[[dict[str, Any]], "dict[str, Any] | list[dict[str, Any]]"]
UpcasterT = TypeVar("UpcasterT", bound=Upcaster)


class EventType:
    """What the registry knows of one event class: its stored names, its schema version and the steps up to it."""

    def __init__(self, cls: type[msgspec.Struct]) -> None:
        options = meta_options(cls, {"name", "version", "aliases", "sensitive"})
        self.cls = cls
        self.name: str = options.get("name", cls.__name__)
        self.version: int = options.get("version", 1)
        aliases = options.get("aliases", ())
        if isinstance(aliases, str):
            raise DefinitionError(f"{cls.__qualname__}.Meta.aliases is a tuple of names, not {aliases!r}")
        self.aliases: tuple[str, ...] = tuple(aliases)
        self.sensitive: frozenset[str] = _sensitive_fields(cls)
        self.upcasters: dict[int, Upcaster] = {}
        for name in (self.name, *self.aliases):
            require_name(f"{cls.__qualname__}.Meta: a name or alias", name, DefinitionError)
        if not isinstance(self.version, int) or self.version < 1:
            raise DefinitionError(f"{cls.__qualname__}.Meta.version is a whole number from 1 on")

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        # Made on first use: while a class registers itself, its fields are not known yet.
        return msgspec.json.Decoder(self.cls)

    def faithful(self, event: Any, data: str) -> Any:
        """The event as it would be read back. Raises `PayloadError` if that is not what it is."""
        try:
            again = self._decoder.decode(data)
        except msgspec.MsgspecError as error:
            # msgspec says: Expected `int`, got `str` - at `$.amount`
            reason, _, field = str(error).replace("`", "").partition(" - at $")
            raise PayloadError(self.name, field.removeprefix("."), reason[:1].lower() + reason[1:]) from error
        try:
            same = again == event
        except ArithmeticError as error:
            raise PayloadError(self.name, "", "contains a signalling NaN, which cannot be compared") from error
        if not same:
            changed = [name for name in event.__struct_fields__ if getattr(event, name) != getattr(again, name)]
            raise PayloadError(self.name, ", ".join(changed), "would be read back as a different value")
        return again

    @cached_property
    def sensitive_keys(self) -> frozenset[str]:
        """The sensitive fields under the names that they have in a payload."""
        encoded = dict(zip(self.cls.__struct_fields__, self.cls.__struct_encode_fields__, strict=True))
        return self.sensitive | {encoded[name] for name in self.sensitive & encoded.keys()}

    @property
    def unknown_sensitive(self) -> list[str]:
        """The sensitive names that no payload can have: not of today's fields, and there were no others."""
        return sorted(self.sensitive - {*self.cls.__struct_fields__}) if self.version == 1 else []

    @property
    def path(self) -> str:
        return f"{self.cls.__module__}.{self.cls.__qualname__}"

    @property
    def missing_upcasters(self) -> list[int]:
        """The schema versions from which no step leads on."""
        return [version for version in range(1, self.version) if version not in self.upcasters]

    def decode(self, data: str, schema_version: int) -> list[Any]:
        if schema_version == self.version:
            return [self._decoder.decode(data)]
        payloads = [msgspec.json.decode(data)]
        for version in range(schema_version, self.version):
            payloads = [result for payload in payloads for result in self._upcast(payload, version)]
        return [msgspec.convert(payload, type=self.cls, str_keys=True) for payload in payloads]

    def _upcast(self, payload: dict[str, Any], version: int) -> list[dict[str, Any]]:
        try:
            return _as_list(self.upcasters[version](payload))
        except Exception as error:
            raise _UpcasterRaised from error


def _sensitive_fields(cls: type[msgspec.Struct]) -> frozenset[str]:
    """What the class and its bases name: a field is sensitive wherever it is inherited to."""
    found: set[str] = set()
    for base in cls.__mro__:
        names = getattr(vars(base).get("Meta"), "sensitive", ())
        if not isinstance(names, set | frozenset | tuple | list) or not all(isinstance(name, str) for name in names):
            raise DefinitionError(f"{base.__qualname__}.Meta.sensitive is a set of field names, not {names!r}")
        found.update(names)
    return frozenset(found)


class _UpcasterRaised(Exception):
    """Keeps what an upcaster raised apart from what decoding raised."""


def _as_list(upcast: dict[str, Any] | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return upcast if isinstance(upcast, list) else [upcast]


class EventRegistry:
    """All event classes by stored name. A name that two classes claim stays visible as a conflict, for the system
    check, and using it raises `DefinitionError`."""

    def __init__(self) -> None:
        self._by_class: dict[type[msgspec.Struct], EventType] = {}
        self._by_name: dict[str, dict[str, EventType]] = {}
        self.revision = 0
        """Grows with each upcaster."""

    def register(self, cls: type[msgspec.Struct]) -> None:
        event_type = EventType(cls)
        self._by_class[cls] = event_type
        for name in (event_type.name, *event_type.aliases):
            # Keyed by path: a module that is imported again replaces its classes.
            self._by_name.setdefault(name, {})[event_type.path] = event_type

    def of(self, cls: type[msgspec.Struct]) -> EventType:
        """The type of an event class. Raises `DefinitionError` if it is none or another class claims its name."""
        event_type = self._by_class.get(cls)
        if event_type is None:
            raise DefinitionError(f"{cls!r} is no subclass of Event")
        if len(self._by_name[event_type.name]) > 1:
            self._raise_name_conflict(event_type.name)
        return event_type

    def stored_names(self, classes: Iterable[type[msgspec.Struct]]) -> list[str]:
        """Every name under which events of these classes may be stored."""
        types = [self.of(cls) for cls in classes]
        return sorted({name for event_type in types for name in (event_type.name, *event_type.aliases)})

    def sensitive_keys(self, type: str | None = None) -> frozenset[str]:
        """The sensitive keys in payloads of a stored name; of all types where it is None or no class has it."""
        claims = self._by_name.get(type or "", {}).values() or self._by_class.values()
        return frozenset().union(*(event_type.sensitive_keys for event_type in claims))

    def types(self) -> Iterable[EventType]:
        return self._by_class.values()

    def conflicts(self) -> dict[str, list[str]]:
        """The names that more than one class claims, with the paths of those classes."""
        return {name: sorted(claims) for name, claims in self._by_name.items() if len(claims) > 1}

    def decode(self, stream: StreamId, version: int, type: str, schema_version: int, data: str) -> list[Any]:
        """The stored payload as today's events: one, or as many as the upcasters made of it.

        Raises the kind of `ReplayError` that tells why it cannot be read.
        """
        event_type = self._named(type)
        if event_type is None:
            reason = f"no event class is named {type!r}; import its module, or give its new name Meta.aliases"
            raise UnknownEventType(stream, version, type, reason)
        if schema_version > event_type.version:
            reason = f"its schema version {schema_version} is newer than {event_type.path}, {event_type.version}"
            raise UnsupportedEventVersion(stream, version, type, reason)
        # Most events are of the current version, and asking what is missing costs as much as decoding.
        for missing in event_type.missing_upcasters if schema_version < event_type.version else ():
            if missing >= schema_version:
                reason = f"no @upcasts({event_type.cls.__name__}, from_version={missing})"
                raise MissingUpcaster(stream, version, type, reason)
        try:
            return event_type.decode(data, schema_version)
        except _UpcasterRaised as error:
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


def _origin(function: Upcaster) -> object:
    """The same for the function of a module that is imported again."""
    plain = inspect.unwrap(function)
    if not isinstance(plain, FunctionType):
        return plain
    code = plain.__code__
    return plain.__module__, plain.__qualname__, code.co_filename, code.co_firstlineno


def upcasts(cls: type[msgspec.Struct], *, from_version: int) -> Callable[[UpcasterT], UpcasterT]:
    """Registers a pure function from the payload of schema version `from_version` to that of the next one.

    It takes and returns a dict, or returns a list of dicts where one old event became several or none. Raises
    `DefinitionError` for a class that is no event, a version that has no next one, or a step that exists already.
    """
    event_type = registry.of(cls)
    if not 1 <= from_version < event_type.version:
        raise DefinitionError(
            f"@upcasts({cls.__name__}, from_version={from_version}): the versions before the current one, "
            f"{event_type.version}, can be upcast; raise Meta.version with the step that leads to it"
        )

    def register(function: UpcasterT) -> UpcasterT:
        known = event_type.upcasters.setdefault(from_version, function)
        if _origin(known) != _origin(function):
            raise DefinitionError(f"{cls.__name__} has two upcasters from version {from_version}")
        event_type.upcasters[from_version] = function
        registry.revision += 1
        return function

    return register
