"""Identities of streams."""

from typing import Final

import msgspec

from es_django.core.errors import InvalidStreamId

MAX_NAME_LENGTH: Final = 255


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
            if "\x00" in value or not (value.isascii() or _is_unicode(value)):
                raise InvalidStreamId(field, value, "must not hold null characters or lone surrogates")

    def __str__(self) -> str:
        return f"stream {self.category!r} {self.key!r}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_stream(stream: object) -> None:
    if not isinstance(stream, StreamId):
        raise TypeError(f"a stream is a StreamId, as in StreamId('order', 'o-1'), not {stream!r}")
