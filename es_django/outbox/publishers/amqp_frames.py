"""Messages as frames of AMQP 0-9-1, so that many messages can be written at once.

py-amqp writes each message separately, and polls for data from the broker before each write. This costs more CPU time
than the rest of a relay.
"""

from functools import lru_cache
from struct import pack
from typing import Any, NamedTuple

import amqp
from amqp.exceptions import FrameSyntaxError
from amqp.serialization import dumps

METHOD, HEADER, BODY = 1, 2, 3
END = b"\xce"
OVERHEAD = 8
BASIC, PUBLISH = 60, 40
PERSISTENT = 2
"""The delivery mode of a message that survives a restart of the broker."""


class Delivery(NamedTuple):
    """A message for an exchange, with its properties and encoded body."""

    exchange: str
    routing_key: str
    properties: dict[str, Any]
    """The properties that are set, by their names in `amqp.Message`."""
    body: bytes
    mandatory: bool = True
    """Whether the broker returns the message if no queue takes it."""


def frames_of(delivery: Delivery, *, channel: int, frame_max: int) -> bytes:
    """Return the frames that publish a delivery.

    Raises:
        struct.error, UnicodeError, FrameSyntaxError: AMQP cannot express the delivery.
    """
    exchange, routing_key, properties, body, mandatory = delivery
    flags, kinds, names = _layout(tuple(properties))
    values = tuple(map(properties.__getitem__, names))
    header = pack(">HHQH", BASIC, 0, len(body), flags) + dumps(kinds, values)
    longest = frame_max - OVERHEAD
    if len(header) > longest:
        raise FrameSyntaxError(f"the headers are longer than a frame, which holds {longest} bytes")
    pieces = (body[start : start + longest] for start in range(0, len(body), longest))
    frames = [
        _publish(channel, exchange, routing_key, mandatory),
        _frame(HEADER, channel, header),
        *(_frame(BODY, channel, piece) for piece in pieces),
    ]
    return b"".join(frames)


@lru_cache
def _layout(properties: tuple[str, ...]) -> tuple[int, str, tuple[str, ...]]:
    """Return the header's flags for these properties, and the types and names of the properties in its order."""
    bits = [bit for bit, (name, _) in enumerate(amqp.Message.PROPERTIES) if name in properties]
    names, kinds = zip(*(amqp.Message.PROPERTIES[bit] for bit in bits), strict=True) if bits else ((), ())
    return sum(0x8000 >> bit for bit in bits), "".join(kinds), tuple(names)


@lru_cache
def _publish(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    immediate = False
    arguments = dumps("Bssbb", (0, exchange, routing_key, mandatory, immediate))
    return _frame(METHOD, channel, pack(">HH", BASIC, PUBLISH) + arguments)


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return pack(">BHI", kind, channel, len(payload)) + payload + END
