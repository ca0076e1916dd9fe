"""Frames that es_django builds are the frames that py-amqp writes."""

from types import SimpleNamespace
from typing import Any

import amqp
import pytest
from amqp.exceptions import FrameSyntaxError
from amqp.method_framing import frame_writer
from amqp.serialization import dumps

from es_django.outbox.publishers.amqp_frames import Delivery, frames_of

FRAME_MAX = 4096
PROPERTIES: dict[str, dict[str, Any]] = {
    "none": {},
    "those of a message": {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "application_headers": {"correlation_id": "ä"},
        "delivery_mode": 2,
        "message_id": "id",
    },
    "all": {
        "content_type": "application/x-python-serialize",
        "content_encoding": "binary",
        "application_headers": {"retries": 0, "timelimit": [None, None], "stamps": {"a": True}},
        "delivery_mode": 1,
        "priority": 9,
        "correlation_id": "correlation",
        "reply_to": "",
        "expiration": "1000",
        "message_id": "id",
        "timestamp": 1_800_000_000,
        "type": "type",
        "user_id": "guest",
        "app_id": "app",
        "cluster_id": "cluster",
    },
}


def frames_of_amqp(delivery: Delivery) -> bytes:
    written = bytearray()
    connection = SimpleNamespace(frame_max=FRAME_MAX, bytes_sent=0)
    write_frame = frame_writer(connection, SimpleNamespace(write=written.extend))
    arguments = dumps("Bssbb", (0, delivery.exchange, delivery.routing_key, delivery.mandatory, False))
    content = amqp.Message(delivery.body, **delivery.properties)
    write_frame(1, 7, amqp.spec.Basic.Publish, arguments, content)
    return bytes(written)


class TestFrames:
    @pytest.mark.parametrize("properties", PROPERTIES.values(), ids=PROPERTIES)
    @pytest.mark.parametrize("size", [1, 100, 4088, 4089, 10_000])
    @pytest.mark.parametrize("mandatory", [True, False])
    def test_frames_are_the_same_as_those_of_py_amqp(
        self, properties: dict[str, Any], size: int, mandatory: bool
    ) -> None:
        delivery = Delivery("exchange", "key", properties, b"x" * size, mandatory)
        assert frames_of(delivery, channel=7, frame_max=FRAME_MAX) == frames_of_amqp(delivery)

    def test_headers_that_are_longer_than_a_frame_are_rejected(self) -> None:
        delivery = Delivery("exchange", "key", {"application_headers": {"h": "x" * FRAME_MAX}}, b"body")
        with pytest.raises(FrameSyntaxError, match="4088 bytes"):
            frames_of(delivery, channel=7, frame_max=FRAME_MAX)
