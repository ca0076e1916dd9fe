"""Messages as the frames of AMQP 0-9-1, so that many of them can be written at once.

py-amqp writes each message by itself, and looks for a word of the broker before each: that costs a client more than all
else that a relay does.
"""

from collections.abc import Mapping
from functools import lru_cache
from struct import pack
from typing import NamedTuple

from amqp.exceptions import FrameSyntaxError
from amqp.serialization import dumps

METHOD, HEADER, BODY = 1, 2, 3
END = b"\xce"
OVERHEAD = 8
BASIC, PUBLISH = 60, 40
PROPERTIES = 0b1111_0000_1000_0000
"""Content type, content encoding, headers, delivery mode and message id; they follow in this order."""
PERSISTENT = 2


class Delivery(NamedTuple):
    """A message on its way to an exchange, to be returned if no queue takes it."""

    routing_key: str
    message_id: str
    content_type: str
    headers: Mapping[str, str]
    body: bytes


def frames_of(delivery: Delivery, *, channel: int, exchange: str, frame_max: int) -> bytes:
    """The frames that publish it. Raises what py-amqp does where AMQP cannot express it."""
    properties = delivery.content_type, "utf-8", delivery.headers, PERSISTENT, delivery.message_id
    header = pack(">HHQH", BASIC, 0, len(delivery.body), PROPERTIES) + dumps("ssFos", properties)
    longest = frame_max - OVERHEAD
    if len(header) > longest:
        raise FrameSyntaxError(f"its headers are longer than the {longest} bytes of a frame")
    pieces = (delivery.body[start : start + longest] for start in range(0, len(delivery.body), longest))
    frames = [
        _publish(channel, exchange, delivery.routing_key),
        _frame(HEADER, channel, header),
        *(_frame(BODY, channel, piece) for piece in pieces),
    ]
    return b"".join(frames)


@lru_cache
def _publish(channel: int, exchange: str, routing_key: str) -> bytes:
    mandatory, immediate = True, False
    arguments = dumps("Bssbb", (0, exchange, routing_key, mandatory, immediate))
    return _frame(METHOD, channel, pack(">HH", BASIC, PUBLISH) + arguments)


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return pack(">BHI", kind, channel, len(payload)) + payload + END
