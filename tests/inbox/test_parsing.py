"""CloudEvents in HTTP requests are read strictly: malformed and ambiguous events are rejected."""

import base64
import json
from typing import Any

import pytest

from es_django import Message
from es_django.errors import InvalidCloudEvent
from es_django.inbox.parsing import read_messages
from tests.inbox.sender import BATCH, STRUCTURED, fields

BINARY = {"ce-specversion": "1.0", "ce-id": "17", "ce-type": "tests.noted", "ce-source": "/shop"}


def read(body: str | bytes, content_type: str = STRUCTURED, **headers: str) -> list[Message]:
    content = body if isinstance(body, bytes) else body.encode()
    return read_messages({"Content-Type": content_type, **headers}, content, max_events=100)


def read_one(**attributes: Any) -> Message:
    (message,) = read(json.dumps(fields(**attributes)))
    return message


def read_binary(body: bytes, content_type: str | None = "application/json", **headers: str | None) -> Message:
    given = {**BINARY, "Content-Type": content_type, **{f"ce-{name}": value for name, value in headers.items()}}
    (message,) = read_messages(
        {name: value for name, value in given.items() if value is not None}, body, max_events=100
    )
    return message


BROKEN = ["{", '{"a": 1, "a": 2}', "NaN", "-Infinity", '{"a": 1e999}', "[" * 100_000, "1" * 5_000, "\ufeff{}"]


class TestModes:
    def test_the_same_event_in_each_of_three_modes_gives_the_same_message(self) -> None:
        structured = read_one(partitionkey="k")
        assert structured == read_binary(b'{"number": 1}', partitionkey="k")
        assert [structured] == read(json.dumps([fields(partitionkey="k")]), BATCH)
        assert (structured.type, structured.data, structured.key) == ("tests.noted", {"number": 1}, "k")

    def test_each_event_of_a_batch_is_a_message(self) -> None:
        assert [message.headers["id"] for message in read(json.dumps([fields(id="1"), fields(id="2")]), BATCH)] == [
            "1",
            "2",
        ]
        assert read("[]", BATCH) == []

    def test_the_content_type_may_have_capitals_and_parameters(self) -> None:
        assert len(read(json.dumps(fields()), "Application/CloudEvents+JSON; charset=utf-8")) == 1

    @pytest.mark.parametrize(
        "content_type",
        ["application/cloudevents+avro", "application/cloudevents", "application/json", "text/plain", ""],
    )
    def test_another_content_type_is_rejected(self, content_type: str) -> None:
        with pytest.raises(InvalidCloudEvent, match="application/cloudevents"):
            read(json.dumps(fields()), content_type)


class TestData:
    @pytest.mark.parametrize("data", [None, True, 17, "text", [1], {"a": None}])
    def test_data_of_any_json_type_is_kept(self, data: Any) -> None:
        body = json.dumps(data)
        assert read(json.dumps({**fields(), "data": data}))[0].data == data
        assert read_binary(body.encode()).data == data

    @pytest.mark.parametrize(
        ("body", "content_type", "data"),
        [
            (b"", "application/json", None),
            (b"[1]", None, [1]),
            (b"[1]", "application/problem+json", [1]),
            ("gr\u00fcn".encode(), "text/plain", "gr\u00fcn"),
            (b"\xff", "application/x-bytes", "/w=="),
        ],
    )
    def test_binary_data_is_read_by_its_content_type(self, body: bytes, content_type: str | None, data: Any) -> None:
        assert read_binary(body, content_type).data == data

    @pytest.mark.parametrize(
        ("content_type", "raw", "data"),
        [(None, b"[1]", [1]), ("text/xml", b"<a/>", "<a/>"), ("application/x-bytes", b"\xff", "/w==")],
    )
    def test_data_in_base64_is_read_by_its_content_type(self, content_type: str | None, raw: bytes, data: Any) -> None:
        encoded = base64.b64encode(raw).decode()
        assert read_one(data=None, data_base64=encoded, datacontenttype=content_type).data == data


class TestAttributes:
    def test_headers_are_percent_decoded(self) -> None:
        assert read_binary(b"1", subject="gr%C3%BCn%20100%25").headers["subject"] == "gr\u00fcn 100%"

    def test_a_null_attribute_is_absent(self) -> None:
        assert "subject" not in read(json.dumps({**fields(), "subject": None}))[0].headers

    def test_a_time_is_kept_and_a_missing_time_stays_absent(self) -> None:
        assert read_one(time="2026-01-02T03:04:05Z").headers["time"] == "2026-01-02T03:04:05+00:00"
        assert "time" not in read_one().headers


class TestInvalidEvents:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"id": None},
            {"type": None},
            {"source": None},
            {"specversion": None},
            {"id": ""},
            {"id": 17},
            {"specversion": "0.3"},
            {"specversion": 1.0},
            {"time": "noon"},
            {"time": 17},
            {"time": "2026-01-02T03:04:05"},
            {"Upper": "case"},
            {"nested": {"a": 1}},
            {"ratio": 1.5},
            {"data_base64": "AA=="},
            {"data": None, "data_base64": "no base64!"},
            {"data": None, "data_base64": 17},
            {"data": None, "data_base64": base64.b64encode(b"{").decode()},
            {"data": "a \x00"},
            {"data": "\ud800"},
            {"type": "a\x00"},
            {"otherheaders": "["},
        ],
    )
    def test_an_invalid_event_is_rejected(self, wrong: dict[str, Any]) -> None:
        body = json.dumps(fields(**wrong))
        with pytest.raises(InvalidCloudEvent):
            read(body)
        with pytest.raises(InvalidCloudEvent):
            read(f"[{json.dumps(fields(id='good'))}, {body}]", BATCH)

    @pytest.mark.parametrize("name", ["specversion", "id", "type", "source"])
    def test_a_binary_event_without_a_required_attribute_is_rejected(self, name: str) -> None:
        with pytest.raises(InvalidCloudEvent):
            read_binary(b"{}", **{name: None})

    @pytest.mark.parametrize("wrong", [{"time": "noon"}, {"specversion": "0.3"}, {"not-a-name": "1"}, {"id": ""}])
    def test_a_binary_event_with_an_invalid_attribute_is_rejected(self, wrong: dict[str, str]) -> None:
        with pytest.raises(InvalidCloudEvent):
            read_binary(b"{}", **wrong)

    def test_the_error_names_the_missing_attribute(self) -> None:
        with pytest.raises(InvalidCloudEvent, match="Missing required attribute: 'source'"):
            read_one(source=None)


class TestInvalidJson:
    @pytest.mark.parametrize("body", BROKEN, ids=lambda body: body[:10])
    def test_broken_json_is_rejected(self, body: str) -> None:
        for request, content_type in ((body, STRUCTURED), (body, BATCH), (f'{{"data": {body}}}', STRUCTURED)):
            with pytest.raises(InvalidCloudEvent):
                read(request, content_type)
        with pytest.raises(InvalidCloudEvent):
            read(json.dumps(fields()).replace('{"number": 1}', body))

    @pytest.mark.parametrize("body", ["", "null", "17", '"text"', "[]"])
    def test_json_that_is_not_an_object_is_rejected(self, body: str) -> None:
        with pytest.raises(InvalidCloudEvent):
            read(body)
        with pytest.raises(InvalidCloudEvent):
            read(f"[{body or 'null'}]", BATCH)

    @pytest.mark.parametrize("body", [b"\xff", "{}".encode("utf-16"), b'{"a": 1, "a": 2}', b"NaN", b"1e999", b"{"])
    def test_broken_json_in_a_binary_event_is_rejected(self, body: bytes) -> None:
        with pytest.raises(InvalidCloudEvent):
            read_binary(body)
