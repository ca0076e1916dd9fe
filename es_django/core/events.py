"""Events: typed, immutable facts, on their way to a stream and as they stand in it.

Nothing here knows Django.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, dataclass_transform
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from es_django.core.registry import registry
from es_django.core.serialization import as_stored, encode_payload
from es_django.core.streams import StreamId

# An unknown field is one that a class has lost since: read without it, the event would be another one.
_STRICT = {"frozen": True, "kw_only": True, "forbid_unknown_fields": True}


class _EventMeta(msgspec.StructMeta):
    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **config: Any) -> Any:
        return super().__new__(mcls, name, bases, namespace, **{**_STRICT, **config})


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Event(msgspec.Struct, metaclass=_EventMeta, frozen=True):
    """The base of event classes: frozen, keyword-only, validated when read back.

    A nested `class Meta` may set `name` (what is stored; the class name where absent), `version` (the schema version
    of the payload; 1 where absent), `aliases` (names under which older events of this class are stored) and `sensitive`
    (fields, also those that only older schema versions have, that the admin shows to nobody without the permission
    `es_django.view_sensitive_data`; stored they are as all others are, and subclasses inherit them).
    """

    def __init_subclass__(cls, **config: Any) -> None:
        super().__init_subclass__(**config)
        registry.register(cls)

    def __deepcopy__(self, memo: object) -> "Event":
        return self


class PendingEvent(msgspec.Struct, frozen=True):
    """An event on its way to the store, with the id that makes appending it again harmless, and its payload as JSON.

    Raises `PayloadError` if the payload cannot be stored, `DefinitionError` if two classes claim its name.
    """

    event: Event
    event_id: UUID = msgspec.field(default_factory=uuid7)
    data: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.event, Event) or type(self.event) is Event:
            raise TypeError(f"{self.event!r} is no Event: record and append instances of Event subclasses")
        event_type = registry.of(type(self.event))
        data = as_stored(encode_payload(self.event, event_type.name))
        # A copy of its own: what its writer makes of the event's lists later is no part of it.
        msgspec.structs.force_setattr(self, "event", event_type.round_trip(self.event, data))
        msgspec.structs.force_setattr(self, "data", data)

    def decoded(self) -> Event:
        """A further copy of the event."""
        copy: Event = registry.of(type(self.event)).round_trip(self.event, self.data)
        return copy


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
