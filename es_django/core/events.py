"""Events: typed, immutable facts, before and after they are stored."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, dataclass_transform
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from es_django.core.registry import registry
from es_django.core.serialization import encode_payload, jsonb_form
from es_django.core.streams import StreamId

# Decoding raises an error if the class has lost a stored field. Dropping the value would change the event's meaning.
_STRICT = {"frozen": True, "kw_only": True, "forbid_unknown_fields": True}


class _EventMeta(msgspec.StructMeta):
    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **config: Any) -> Any:
        return super().__new__(mcls, name, bases, namespace, **{**_STRICT, **config})


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Event(msgspec.Struct, metaclass=_EventMeta, frozen=True):
    """The base of event classes: frozen, keyword-only, and validated when a stored event is read.

    A nested `class Meta` may set:
    - `name`: the stored name. Default: the class name.
    - `version`: the schema version of the payload. Default: 1.
    - `aliases`: names under which older events of this class are stored.
    - `sensitive`: fields that the admin hides from users without the permission `es_django.view_sensitive_data`. Fields
      of older schema versions are allowed, and subclasses inherit the option. The values are stored as plain text.
    """

    def __init_subclass__(cls, **config: Any) -> None:
        super().__init_subclass__(**config)
        registry.register(cls)

    def __deepcopy__(self, memo: object) -> "Event":
        return self


class PendingEvent(msgspec.Struct, frozen=True):
    """An event that is not stored yet, with its payload as JSON. Its id makes a repeated append harmless.

    Raises:
    - `TypeError` if `event` is not an instance of an Event subclass,
    - `PayloadError` if the payload cannot be stored,
    - `DefinitionError` if two classes claim the name of the event.
    """

    event: Event
    event_id: UUID = msgspec.field(default_factory=uuid7)
    data: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.event, Event) or type(self.event) is Event:
            raise TypeError(
                f"{self.event!r} is not an instance of an Event subclass; only those can be recorded or appended"
            )
        event_type = registry.of(type(self.event))
        data = jsonb_form(encode_payload(self.event, event_type.name))
        # Keep a copy, because the caller may change a list inside `event` before the append.
        msgspec.structs.force_setattr(self, "event", event_type.round_trip(self.event, data))
        msgspec.structs.force_setattr(self, "data", data)

    def own_event(self) -> Event:
        """Return the event for one consumer: a copy if a part of the event can be changed."""
        return self.decoded() if registry.of(type(self.event)).is_mutable else self.event

    def decoded(self) -> Event:
        """Return a new copy of the event, decoded from its JSON."""
        copy: Event = registry.of(type(self.event)).decode_own(self.data)
        return copy


if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    EventT_co = TypeVarWithDefault("EventT_co", bound=Event, default=Event, covariant=True)
else:
    EventT_co = TypeVar("EventT_co", bound=Event, covariant=True)


class StagedEvent(msgspec.Struct, Generic[EventT_co], frozen=True):
    """An event that is about to be stored. It has no version and no position yet."""

    stream: StreamId
    event: EventT_co
    event_id: UUID
    metadata: Mapping[str, str]


class RecordedEvent(StagedEvent[EventT_co], Generic[EventT_co], frozen=True):
    """A stored event. `type` and `schema_version` are as stored; `event` is upcast to the current class."""

    version: int
    position: int
    type: str
    schema_version: int
    recorded_at: datetime

    def own(self) -> "RecordedEvent[EventT_co]":
        """Return the event for one consumer: no change by another consumer of the same event can reach it."""
        event = registry.of(type(self.event)).copy(self.event)
        return msgspec.structs.replace(self, event=event, metadata=dict(self.metadata))
