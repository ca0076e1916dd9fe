"""A message as plain JSON: what travels to consumers, and back to a `Message` on their side."""

from typing import Any

import msgspec

from es_django.store.base import Message


def to_wire(message: Message) -> dict[str, Any]:
    """The message as builtins that any JSON encoder can write."""
    fields = msgspec.to_builtins(message)
    fields.pop("delay")
    return {name: value for name, value in fields.items() if value is not None}


def from_wire(fields: dict[str, Any]) -> Message:
    """The message that was sent. Raises `msgspec.ValidationError` if it is none."""
    return msgspec.convert(fields, type=Message)
