"""Each message format for other systems keeps the whole message."""

import json

import pytest
from cloudevents.core.formats.json import JSONFormat
from django.core.exceptions import ImproperlyConfigured

from es_django import Message, StreamId
from es_django.messages.cloudevents import from_cloudevent
from es_django.messages.message import from_wire, to_wire
from es_django.outbox.publishers.serializers import format_named

MESSAGE = Message(
    type="city",
    data=[1.5, None, "ä"],
    key="k",
    headers={"correlation_id": "1", "Odd Name": "x\ny"},
    destination="tests",
    stream=StreamId("order", "1"),
    stream_version=3,
)


class TestFormats:
    def test_a_message_survives_the_round_trip(self) -> None:
        assert from_wire(to_wire(MESSAGE)) == MESSAGE

    def test_plain_json_holds_the_whole_message(self) -> None:
        format = format_named("json")
        assert format.content_type == "application/json"
        assert from_wire(json.loads(format.encode(MESSAGE))) == MESSAGE

    def test_a_cloudevent_holds_the_whole_message_except_the_destination_name(self) -> None:
        format = format_named("cloudevents")
        assert format.content_type == "application/cloudevents+json"
        event = JSONFormat().read(None, format.encode(MESSAGE))
        read = from_cloudevent(event)
        for field in ("type", "data", "key", "stream", "stream_version"):
            assert getattr(read, field) == getattr(MESSAGE, field)
        assert read.headers["id"] == str(MESSAGE.message_id)
        assert MESSAGE.headers.items() <= read.headers.items()

    def test_an_unknown_format_is_rejected(self) -> None:
        with pytest.raises(ImproperlyConfigured, match="'cloudevents' or 'json', not 'xml'"):
            format_named("xml")
