"""JSON that both PostgreSQL and SQLite can store.

PostgreSQL's jsonb rejects null characters, NaN and lone surrogates; SQLite accepts some of them. Encoding rejects all
of them on both databases, so that no payload fails at commit or is read back as a different value.
"""

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from es_django.core.errors import PayloadError

MAX_ERROR_LENGTH = 10_000
FIRST_FLOAT_WITH_EXPONENT = 1e16
"""Floats of at least this size are encoded with an exponent. jsonb returns them as integers."""
MAX_DEPTH = 100
"""The maximum nesting of a payload. Decoding a deeper payload could exceed the stack that a process has left."""

_encoder = msgspec.json.Encoder()


def encode_payload(payload: object, owner: str) -> str:
    """Encode `payload` as JSON text.

    `owner` is the name of the payload in error messages, such as the stored name of an event. Raise `PayloadError` with
    the path of the field that cannot be stored.
    """
    try:
        encoded = _encoder.encode(payload)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        if isinstance(error, RecursionError):
            raise PayloadError(owner, "", "nested too deeply") from error
        for field, reason in _unstorable_values(payload, ""):
            raise PayloadError(owner, field, reason) from error
        raise PayloadError(owner, "", f"cannot be encoded as JSON: {error}") from error
    if (
        len(encoded) > 2 * MAX_DEPTH
        and encoded.count(b"[") + encoded.count(b"{") > MAX_DEPTH
        and _depth(encoded) > MAX_DEPTH
    ):
        raise PayloadError(owner, "", f"nested more than {MAX_DEPTH} levels deep")
    # Searching all values is slow, so search only if the JSON text shows a sign of a value that cannot be stored:
    # `null` (msgspec encodes NaN so) or `\u0000`. Either can be a false alarm: a None, or an escaped backslash before
    # u0000.
    if b"null" in encoded or rb"\u0000" in encoded:
        for field, reason in _unstorable_values(payload, ""):
            raise PayloadError(owner, field, reason)
    return encoded.decode()


def jsonb_form(encoded: str) -> str:
    """Return the JSON as PostgreSQL's jsonb returns it, so that an event is the same before and after it is stored.

    jsonb sorts the keys of objects, turns 1e16 into an integer, and drops the sign of -0.0.
    """
    # The event class defines the order of the outermost keys, so only the keys of inner objects need sorting.
    if encoded.rfind("{") < 1 and "-0.0" not in encoded and not _EXPONENT.search(encoded):
        return encoded
    return _encoder.encode(_normalized(msgspec.json.decode(encoded))).decode()


_EXPONENT = re.compile(r"e(?<=\de)\d")
"""The pattern begins with the letter, because `re` finds a literal first character fast. A lookbehind checks the digit
before the letter."""


def _normalized(value: Any) -> Any:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return {key: _normalized(value[key]) for key in keys}
    if isinstance(value, list):
        return [_normalized(each) for each in value]
    if isinstance(value, float):
        return int(Decimal(repr(value))) if abs(value) >= FIRST_FLOAT_WITH_EXPONENT else value + 0.0
    return value


def storable_text(error: object) -> str:
    """Return an error's text, or its repr, in a form that both databases can store."""
    try:
        text = error if isinstance(error, str) else repr(error)
    except Exception:
        text = f"{type(error).__qualname__}, whose repr raised an error"
    return text[:MAX_ERROR_LENGTH].replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _depth(encoded: bytes) -> int:
    depth = maximum = 0
    for token in _BRACKETS.findall(encoded):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(token, 0)
        maximum = max(maximum, depth)
    return maximum


_BRACKETS = re.compile(rb'"(?:\\.|[^"\\])*"|[][{}]')


def _unstorable_values(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield the path of each value that cannot be stored, with the reason."""
    if isinstance(value, float):
        if not math.isfinite(value):
            yield path, f"{value} is not a JSON number"
    elif isinstance(value, str):
        if "\x00" in value:
            yield path, "contains a null character, which PostgreSQL cannot store"
        elif any("\ud800" <= character <= "\udfff" for character in value):
            yield path, "contains a lone surrogate, which is not valid Unicode"
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _unstorable_values(getattr(value, name), f"{path}.{name}" if path else name)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _unstorable_values(key, f"{path}[{key!r}]")
            yield from _unstorable_values(item, f"{path}[{key!r}]")
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(value):
            yield from _unstorable_values(item, f"{path}[{index}]")
    else:
        try:
            _encoder.encode(value)
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            yield path, f"cannot be encoded as JSON: {error}"
