"""Messages survive the round trip through CloudEvents, and events of other producers become messages."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from es_django import Message, StreamId
from es_django.errors import InvalidCloudEvent
from es_django.messages.cloudevents import from_cloudevent, make_cloudevent, message_id_of, to_cloudevent

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)
names = texts.filter(str.strip)
awkward_names = (
    "correlation_id correlationid causation_id user id data time subject otherheaders partitionkey streamkey"
)
header_names = texts | st.sampled_from([*awkward_names.split(), "specversion", "a" * 20, "a" * 21])
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(texts, children, max_size=3),
    max_leaves=10,
)
messages = st.builds(
    Message,
    type=names,
    data=documents,
    key=st.none() | names,
    headers=st.dictionaries(header_names, texts | st.just(""), max_size=5),
    destination=names,
    stream=st.none() | st.builds(StreamId, category=names, key=names),
    stream_version=st.none() | st.integers(1, 2**63 - 1),
)


def foreign(data: Any = None, **attributes: Any) -> CloudEvent:
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return CloudEvent({"id": "17", "type": "paid", "source": "/shop", "time": time, **attributes}, data)


class TestOwnMessages:
    @given(messages)
    def test_a_message_survives_the_round_trip(self, message: Message) -> None:
        event = to_cloudevent(message)
        travelled = http.from_structured(http.to_structured_event(event), JSONFormat(), make_cloudevent)
        source, given_id = event.get_source(), str(message.message_id)
        assert from_cloudevent(travelled) == msgspec.structs.replace(
            message,
            destination="",
            headers={"source": source, "id": given_id, **message.headers},
            message_id=message_id_of(source, given_id),
        )

    @given(messages)
    def test_every_attribute_follows_the_specification(self, message: Message) -> None:
        attributes = to_cloudevent(message).get_attributes()
        assert all(
            name.isascii() and name.isalnum() and name == name.lower() and len(name) <= 20 for name in attributes
        )
        assert all(isinstance(value, str) and value for value in attributes.values())
        fields = {"type": message.type, "partitionkey": message.key}
        if message.stream is not None:
            fields |= {"streamcategory": message.stream.category, "streamkey": message.stream.key}
        assert all(value.isprintable() for name, value in attributes.items() if value != fields.get(name))

    def test_each_field_of_a_message_becomes_its_attribute(self) -> None:
        message = Message(
            type="order.paid",
            data={"amount": 30},
            key="order-1",
            headers={"correlation_id": "c-1", "user": "ada", "X-Note": "first\nsecond"},
            message_id=UUID("0197f9a0-0000-7000-8000-000000000001"),
            destination="the ledger",
            stream=StreamId("order", "a/b"),
            stream_version=3,
        )
        event = to_cloudevent(message)
        assert event.get_data() == {"amount": 30}
        assert event.get_attributes() == {
            "specversion": "1.0",
            "id": "0197f9a0-0000-7000-8000-000000000001",
            "type": "order.paid",
            "source": "/the%20ledger",
            "datacontenttype": "application/json",
            "partitionkey": "order-1",
            "subject": "order/a%2Fb",
            "streamcategory": "order",
            "streamkey": "a/b",
            "streamversion": "3",
            "correlationid": "c-1",
            "user": "ada",
            "otherheaders": json.dumps({"X-Note": "first\nsecond"}),
        }

    @pytest.mark.parametrize(
        "wrong",
        [
            {"otherheaders": "["},
            {"otherheaders": '{"a": 1}'},
            {"streamversion": "three"},
            {"streamcategory": " ", "streamkey": "k"},
        ],
    )
    def test_invalid_attributes_of_es_django_are_rejected(self, wrong: dict[str, str]) -> None:
        with pytest.raises(InvalidCloudEvent, match="not a CloudEvent"):
            from_cloudevent(foreign(**wrong))


class TestForeignEvents:
    def test_events_with_one_id_but_two_sources_have_different_message_ids(self) -> None:
        one, again, other = (from_cloudevent(foreign(source=source)) for source in ("/shop", "/shop", "/bank"))
        assert one.message_id == again.message_id != other.message_id
        assert (one.headers["id"], one.headers["source"]) == ("17", "/shop")

    def test_source_and_id_are_compared_separately(self) -> None:
        assert (
            from_cloudevent(foreign(source="/a", id="b c")).message_id
            != from_cloudevent(foreign(source="/a b", id="c")).message_id
        )

    @pytest.mark.parametrize("form", ["{}", "{{{}}}", "urn:uuid:{}", "{} "])
    def test_fault_e6_a_uuid_identifies_an_event_only_within_its_source(self, form: str) -> None:
        given_id = form.format("0197f9a0-0000-7000-8000-000000000001")
        one, other = (from_cloudevent(foreign(source=source, id=given_id)) for source in ("/shop", "/bank"))
        assert one.message_id != other.message_id
        assert (one.headers["id"], one.headers["source"]) == (given_id, "/shop")

    def test_attributes_without_a_field_in_the_message_become_headers(self) -> None:
        event = foreign("<a/>", subject="s", dataschema="/schema", datacontenttype="text/xml", sampled=True, hops=2)
        message = from_cloudevent(event)
        assert message.data == "<a/>"
        assert message.headers == {
            "id": "17",
            "source": "/shop",
            "subject": "s",
            "time": "2026-01-02T03:04:05+00:00",
            "dataschema": "/schema",
            "datacontenttype": "text/xml",
            "sampled": "true",
            "hops": "2",
        }

    def test_binary_data_becomes_base64_text(self) -> None:
        message = from_cloudevent(foreign(b"\x00\xff", datacontenttype="application/x-bytes"))
        assert (message.data, message.headers["datacontentencoding"]) == ("AP8=", "base64")
