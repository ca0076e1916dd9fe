"""The identity of a stream, and the one rule for every name and key."""

from collections.abc import Callable
from typing import Final, TypeGuard

import msgspec

from es_django.core.errors import InvalidStreamId

MAX_NAME_LENGTH: Final = 255
NAME_RULE: Final = (
    f"must be a string of 1 to {MAX_NAME_LENGTH} characters, not blank, without null characters or lone surrogates"
)


def is_name(value: object) -> TypeGuard[str]:
    """Return whether `value` follows `NAME_RULE`, so that both databases can store the value as a name or key."""
    if not isinstance(value, str) or not value or len(value) > MAX_NAME_LENGTH or value.isspace() or "\x00" in value:
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_name(subject: str, value: object, error: Callable[[str], Exception]) -> str:
    """Return `value` if it follows `NAME_RULE`. If not, raise `error` with a message that begins with `subject`."""
    if not is_name(value):
        raise error(f"{subject} {NAME_RULE}, got {value!r:.80}")
    return value


class StreamId(msgspec.Struct, frozen=True, order=True):
    """The identity of a stream: a category and a key, in two separate fields.

    Raise `InvalidStreamId` unless the category and the key follow `NAME_RULE`.
    """

    category: str
    key: str

    def __post_init__(self) -> None:
        if not is_name(self.category):
            raise InvalidStreamId("category", self.category, NAME_RULE)
        if not is_name(self.key):
            raise InvalidStreamId("key", self.key, NAME_RULE)

    def __str__(self) -> str:
        return f"stream {self.category!r} {self.key!r}"


def require_stream(stream: object) -> None:
    """Raise `TypeError` unless `stream` is a `StreamId`."""
    if not isinstance(stream, StreamId):
        raise TypeError(f"the stream must be a StreamId such as StreamId('order', 'o-1'), got {stream!r}")
