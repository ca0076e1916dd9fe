"""Messages to the outside: as they are written, and as they travel."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from es_django.core.streams import StreamId


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message to the outside.

    `data` is anything that JSON can hold. Messages of one destination that share a `key` are published in order;
    those without one are not ordered. `delay` keeps it back for that long. `stream` and `stream_version` name the
    event that it tells of, if any; the store sets them.
    """

    type: str
    data: Any
    key: str | None = None
    headers: Mapping[str, str] = {}
    delay: timedelta | None = None
    message_id: UUID = msgspec.field(default_factory=uuid7)
    destination: str = ""
    stream: StreamId | None = None
    stream_version: int | None = None

    @property
    def delay_seconds(self) -> float:
        return self.delay.total_seconds() if self.delay else 0.0


class StagedMessage(msgspec.Struct, frozen=True):
    """A message about to be stored, encoded, and the ordinal of the event in its append that it tells of, or 0."""

    message: Message
    ordinal: int
    data: str
    headers: str


def to_wire(message: Message) -> dict[str, Any]:
    """The message as builtins that any JSON encoder can write."""
    fields: dict[str, Any] = msgspec.to_builtins(message)
    del fields["delay"]
    return {name: value for name, value in fields.items() if value is not None or name == "data"}


def from_wire(fields: dict[str, Any]) -> Message:
    """The message that was sent. Raises `msgspec.ValidationError` if it is none."""
    return msgspec.convert(fields, type=Message)
