"""Events: typed, immutable facts, and how a stored one becomes its class again.

Nothing here knows Django. What cannot be read as what it was raises a `ReplayError`; nothing is guessed.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar, dataclass_transform
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from es_django.errors import (
    ImproperlyConfigured,
    InvalidStreamId,
    MissingUpcaster,
    PayloadError,
    UndecodableEvent,
    UnknownEventType,
    UnsupportedEventVersion,
    UpcastError,
)
from es_django.meta import meta_options
from es_django.payloads import encode_payload

MAX_NAME_LENGTH = 255


class StreamId(msgspec.Struct, frozen=True, order=True):
    """The identity of a stream: a category and a key, two fields that are never glued together.

    Each is 1 to 255 characters and not blank; otherwise `InvalidStreamId`.
    """

    category: str
    key: str

    def __post_init__(self) -> None:
        for field in ("category", "key"):
            value = getattr(self, field)
            if not isinstance(value, str):
                raise InvalidStreamId(field, value, "must be text")
            if not value.strip():
                raise InvalidStreamId(field, value, "must not be blank")
            if len(value) > MAX_NAME_LENGTH:
                raise InvalidStreamId(field, value, f"has at most {MAX_NAME_LENGTH} characters")
            if "\x00" in value or not _is_unicode(value):
                raise InvalidStreamId(field, value, "must not hold null characters or lone surrogates")

    def __str__(self) -> str:
        return f"stream {self.category!r} {self.key!r}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# An unknown field is one that a class has lost since: read without it, the event would be another one.
_STRICT = {"frozen": True, "kw_only": True, "forbid_unknown_fields": True}


class _EventMeta(msgspec.StructMeta):
    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **config: Any) -> Any:
        return super().__new__(mcls, name, bases, namespace, **{**_STRICT, **config})


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Event(msgspec.Struct, metaclass=_EventMeta, frozen=True):
    """The base of event classes: frozen, keyword-only, validated when read back.

    A nested `class Meta` may set `name` (what is stored; the class name where absent), `version` (the schema version
    of the payload; 1 where absent) and `aliases` (names under which older events of this class are stored).
    """

    def __init_subclass__(cls, **config: Any) -> None:
        super().__init_subclass__(**config)
        registry.register(cls)

    def __deepcopy__(self, memo: object) -> "Event":
        return self


class PendingEvent(msgspec.Struct, frozen=True):
    """An event on its way to the store, with the id that makes appending it again harmless, and its payload as JSON.

    Raises `PayloadError` if the payload cannot be stored, `ImproperlyConfigured` if two classes claim its name.
    """

    event: Event
    event_id: UUID = msgspec.field(default_factory=uuid7)
    data: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.event, Event) or type(self.event) is Event:
            raise TypeError(f"{self.event!r} is no Event: record and append instances of Event subclasses")
        event_type = registry.of(type(self.event))
        data = encode_payload(self.event, event_type.name)
        event_type.refuse_unfaithful(self.event, data)
        msgspec.structs.force_setattr(self, "data", data)


if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    EventT_co = TypeVarWithDefault("EventT_co", bound=Event, default=Event, covariant=True)
else:
    EventT_co = TypeVar("EventT_co", bound=Event, covariant=True)


class StagedEvent(msgspec.Struct, Generic[EventT_co], frozen=True):
    """An event about to be stored: all that is known of it before it has a version and a position."""

    stream: StreamId
    event: EventT_co
    event_id: UUID
    metadata: Mapping[str, str]


class RecordedEvent(StagedEvent[EventT_co], Generic[EventT_co], frozen=True):
    """An event as stored. `type` and `schema_version` are the stored ones, `event` is upcast to today's class."""

    version: int
    position: int
    type: str
    schema_version: int
    recorded_at: datetime


Upcaster = Callable[[dict[str, Any]], "dict[str, Any] | list[dict[str, Any]]"]
UpcasterT = TypeVar("UpcasterT", bound=Upcaster)


class EventType:
    """What the registry knows of one event class: its stored names, its schema version and the steps up to it."""

    def __init__(self, cls: type[Event]) -> None:
        options = meta_options(cls, {"name", "version", "aliases"})
        self.cls = cls
        self.name = str(options.get("name", cls.__name__))
        self.version: int = options.get("version", 1)
        self.aliases: tuple[str, ...] = tuple(options.get("aliases", ()))
        self.upcasters: dict[int, Upcaster] = {}
        for name in (self.name, *self.aliases):
            if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME_LENGTH:
                raise ImproperlyConfigured(f"{cls.__qualname__}.Meta: {name!r} is no name of 1 to 255 characters")
        if not isinstance(self.version, int) or self.version < 1:
            raise ImproperlyConfigured(f"{cls.__qualname__}.Meta.version is a whole number from 1 on")

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Event]:
        # Made on first use: while a class registers itself, its fields are not known yet.
        return msgspec.json.Decoder(self.cls)

    def refuse_unfaithful(self, event: Event, data: str) -> None:
        """Raises `PayloadError` if the event would not be read back as it is."""
        try:
            again = self._decoder.decode(data)
        except msgspec.MsgspecError as error:
            raise PayloadError(self.name, "", f"does not fit its own class: {error}") from error
        if again != event:
            changed = [name for name in event.__struct_fields__ if getattr(event, name) != getattr(again, name)]
            raise PayloadError(self.name, ", ".join(changed), "would be read back as another value")

    @property
    def path(self) -> str:
        return f"{self.cls.__module__}.{self.cls.__qualname__}"

    @property
    def missing_upcasters(self) -> list[int]:
        """The schema versions from which no step leads on."""
        return [version for version in range(1, self.version) if version not in self.upcasters]

    def decode(self, data: str, schema_version: int) -> list[Event]:
        if schema_version == self.version:
            return [self._decoder.decode(data)]
        payloads = [msgspec.json.decode(data)]
        for version in range(schema_version, self.version):
            step = self.upcasters[version]
            payloads = [result for payload in payloads for result in _as_list(step(payload))]
        return [msgspec.convert(payload, type=self.cls) for payload in payloads]


def _as_list(upcast: dict[str, Any] | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return upcast if isinstance(upcast, list) else [upcast]


class EventRegistry:
    """All event classes by stored name. A name that two classes claim stays visible as a conflict, for the system
    check, and using it raises `ImproperlyConfigured`."""

    def __init__(self) -> None:
        self._by_class: dict[type[Event], EventType] = {}
        self._by_name: dict[str, dict[str, EventType]] = {}

    def register(self, cls: type[Event]) -> None:
        event_type = EventType(cls)
        self._by_class[cls] = event_type
        for name in (event_type.name, *event_type.aliases):
            # Keyed by path: a module that is imported again replaces its classes.
            self._by_name.setdefault(name, {})[event_type.path] = event_type

    def of(self, cls: type[Event]) -> EventType:
        """The type of an event class. Raises `ImproperlyConfigured` if another class claims its name."""
        event_type = self._by_class[cls]
        self._named(event_type.name)
        return event_type

    def stored_names(self, classes: Iterable[type[Event]]) -> list[str]:
        """Every name under which events of these classes may be stored."""
        types = [self.of(cls) for cls in classes]
        return sorted({name for event_type in types for name in (event_type.name, *event_type.aliases)})

    def types(self) -> Iterable[EventType]:
        return self._by_class.values()

    def conflicts(self) -> dict[str, list[str]]:
        """The names that more than one class claims, with the paths of those classes."""
        return {name: sorted(claims) for name, claims in self._by_name.items() if len(claims) > 1}

    def decode(self, stream: StreamId, version: int, type: str, schema_version: int, data: str) -> list[Event]:
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
        except msgspec.MsgspecError as error:
            raise UndecodableEvent(stream, version, type, str(error)) from error
        except Exception as error:
            raise UpcastError(stream, version, type, f"an upcaster raised {error!r}") from error

    def _named(self, name: str) -> EventType | None:
        claims = self._by_name.get(name)
        if claims is None:
            return None
        if len(claims) > 1:
            raise ImproperlyConfigured(
                f"{' and '.join(sorted(claims))} are both stored as {name!r}: give one of them another Meta.name"
            )
        return next(iter(claims.values()))


registry = EventRegistry()


def upcasts(cls: type[Event], *, from_version: int) -> Callable[[UpcasterT], UpcasterT]:
    """Registers a pure function from the payload of schema version `from_version` to that of the next one.

    It takes and returns a dict, or returns a list of dicts where one old event became several or none. Raises
    `ImproperlyConfigured` for a version that has no next one, or a step that exists already.
    """
    event_type = registry.of(cls)
    if not 1 <= from_version < event_type.version:
        raise ImproperlyConfigured(
            f"@upcasts({cls.__name__}, from_version={from_version}): the versions before the current one, "
            f"{event_type.version}, can be upcast; raise Meta.version with the step that leads to it"
        )

    def register(function: UpcasterT) -> UpcasterT:
        known = event_type.upcasters.setdefault(from_version, function)
        if known.__qualname__ != function.__qualname__:
            raise ImproperlyConfigured(f"{cls.__name__} has two upcasters from version {from_version}")
        event_type.upcasters[from_version] = function
        return function

    return register
