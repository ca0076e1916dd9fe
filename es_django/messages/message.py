"""Messages to other systems: as code writes them, as they are stored, and as built-in types for JSON."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from es_django.core.streams import StreamId


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message to another system.

    - `data` is any JSON value.
    - `key`: messages with the same destination and key are published in order. Messages without a key have no order.
    - `delay`: the message is published after this time has passed.
    - `stream` and `stream_version` identify the event from which the message was made, if any. The store sets them.
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
    """An encoded message that is about to be stored.

    `ordinal` is the number of the message's event within the append, counted from 1, or 0 without an event.
    """

    message: Message
    ordinal: int
    data: str
    headers: str


def to_wire(message: Message) -> dict[str, Any]:
    """Return the message as built-in types that any JSON encoder can encode."""
    fields: dict[str, Any] = msgspec.to_builtins(message)
    del fields["delay"]
    return {name: value for name, value in fields.items() if value is not None or name == "data"}


def from_wire(fields: dict[str, Any]) -> Message:
    """Return the message that `to_wire` encoded. Raise `msgspec.ValidationError` if `fields` is not a message."""
    return msgspec.convert(fields, type=Message)
