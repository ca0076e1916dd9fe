"""JSON that both databases can hold.

PostgreSQL's jsonb refuses the null character, NaN and lone surrogates; SQLite takes some of them. All are refused on
both, when the payload is made, so that nothing fails at commit or reads back as something else.
"""

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from es_django.core.errors import PayloadError

LONGEST_ERROR = 10_000
SHORTEST_WITH_EXPONENT = 1e16
"""From there on floats are encoded with an exponent, which jsonb writes out."""
DEEPEST = 100
"""Levels of a payload; what one process can encode, another with less stack left might not decode."""

_encoder = msgspec.json.Encoder()


def encode_payload(payload: object, owner: str) -> str:
    """`payload` as JSON text. Raises `PayloadError` that names the field of `owner` which cannot be stored."""
    try:
        encoded = _encoder.encode(payload)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        if isinstance(error, RecursionError):
            raise PayloadError(owner, "", "nested too deeply") from error
        for field, reason in _faults(payload, ""):
            raise PayloadError(owner, field, reason) from error
        raise PayloadError(owner, "", f"cannot be encoded as JSON: {error}") from error
    if len(encoded) > 2 * DEEPEST and encoded.count(b"[") + encoded.count(b"{") > DEEPEST and _depth(encoded) > DEEPEST:
        raise PayloadError(owner, "", f"nested more than {DEEPEST} levels deep")
    # NaN encodes as null, and an escaped backslash can look like a null character: only a suspect is worth a walk.
    if b"null" in encoded or rb"\u0000" in encoded:
        for field, reason in _faults(payload, ""):
            raise PayloadError(owner, field, reason)
    return encoded.decode()


def as_stored(encoded: str) -> str:
    """The same JSON as PostgreSQL's jsonb gives it back: the keys of its objects in another order, 1e16 as a whole
    number, and -0.0 without its sign; so that what goes by these today goes by the same ones after reading."""
    # The fields of a payload have an order of their own, that of its class.
    if encoded.rfind("{") < 1 and "-0.0" not in encoded and not _EXPONENT.search(encoded):
        return encoded
    return _encoder.encode(_normalized(msgspec.json.decode(encoded))).decode()


_EXPONENT = re.compile(r"e(?<=\de)\d")
"""Begins with the one character that can be looked for fast."""


def _normalized(value: Any) -> Any:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return {key: _normalized(value[key]) for key in keys}
    if isinstance(value, list):
        return [_normalized(each) for each in value]
    if isinstance(value, float):
        return int(Decimal(repr(value))) if abs(value) >= SHORTEST_WITH_EXPONENT else value + 0.0
    return value


def storable_text(error: object) -> str:
    """What an error says, as text that both databases can hold."""
    try:
        text = error if isinstance(error, str) else repr(error)
    except Exception:
        text = f"{type(error).__qualname__}, which cannot be shown"
    return text[:LONGEST_ERROR].replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _depth(encoded: bytes) -> int:
    depth = deepest = 0
    for token in _BRACKETS.findall(encoded):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(token, 0)
        deepest = max(deepest, depth)
    return deepest


_BRACKETS = re.compile(rb'"(?:\\.|[^"\\])*"|[][{}]')


def _faults(value: object, path: str) -> Iterator[tuple[str, str]]:
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
            yield from _faults(getattr(value, name), f"{path}.{name}" if path else name)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _faults(key, f"{path}[{key!r}]")
            yield from _faults(item, f"{path}[{key!r}]")
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(value):
            yield from _faults(item, f"{path}[{index}]")
    else:
        try:
            _encoder.encode(value)
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            yield path, f"cannot be encoded as JSON: {error}"
