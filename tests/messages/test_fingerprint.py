"""Two deliveries of one message have the same fingerprint, and other content has another one."""

from typing import Any
from uuid import UUID

import msgspec
import pytest

from es_django import Message, StreamId
from es_django.messages.fingerprint import fingerprint_of
from es_django.messages.message import from_wire, to_wire

MESSAGE = Message(
    type="order.paid",
    data={"order": {"number": 2, "lines": [1, 2.5]}, "note": "caf\u00e9"},
    key="order-2",
    headers={"id": "17", "source": "/shop", "subject": "order/2", "tenant": "a"},
    message_id=UUID("0197f9a0-0000-7000-8000-000000000001"),
    stream=StreamId("order", "2"),
    stream_version=3,
)


def changed(**fields: Any) -> Message:
    return msgspec.structs.replace(MESSAGE, **fields)


def headers(**more: str) -> dict[str, str]:
    return {**MESSAGE.headers, **more}


class TestFingerprint:
    @pytest.mark.parametrize(
        "repeat",
        [
            changed(data={"note": "caf\u00e9", "order": {"lines": [1, 2.5], "number": 2}}),
            changed(data={"order": {"number": 2.0, "lines": [1.0, 2.50]}, "note": "caf\u00e9"}),
            changed(headers=headers(time="2026-01-02T03:04:05+00:00")),
            changed(headers=headers(traceparent="00-1", tracestate="a=b", baggage="c=d")),
            changed(headers=headers(correlation_id="request-2", causation_id="x")),
            changed(headers=headers(datacontenttype="application/json; charset=utf-8")),
            changed(headers=dict(reversed(list(MESSAGE.headers.items())))),
            changed(destination="ledger"),
            from_wire(msgspec.json.decode(msgspec.json.encode(to_wire(MESSAGE)))),
        ],
    )
    def test_fault_a15_a_repeat_has_the_same_fingerprint(self, repeat: Message) -> None:
        assert fingerprint_of(repeat) == fingerprint_of(MESSAGE)

    @pytest.mark.parametrize(
        "other",
        [
            changed(type="order.refunded"),
            changed(data=None),
            changed(data={"order": {"number": 2, "lines": [2.5, 1]}, "note": "caf\u00e9"}),
            changed(data={"order": {"number": "2", "lines": [1, 2.5]}, "note": "caf\u00e9"}),
            changed(data={"order": {"number": True, "lines": [1, 2.5]}, "note": "caf\u00e9"}),
            changed(key="order-3"),
            changed(key=None),
            changed(stream=StreamId("order", "3")),
            changed(stream=None, stream_version=None),
            changed(stream_version=4),
            changed(headers=headers(subject="order/3")),
            changed(headers=headers(tenant="b")),
            changed(headers=headers(dataschema="/v2")),
            changed(headers=headers(datacontenttype="text/plain")),
            changed(headers=headers(datacontentencoding="base64")),
        ],
    )
    def test_fault_a15_other_content_has_another_fingerprint(self, other: Message) -> None:
        assert fingerprint_of(other) != fingerprint_of(MESSAGE)
