"""Convert messages to CloudEvents 1.0 and back.

| CloudEvent | message |
| --- | --- |
| `id`, `type`, `data` | `message_id`, `type`, `data` |
| `source` | "/" and the percent-encoded `destination` |
| `partitionkey` | `key` |
| `streamcategory`, `streamkey`, `streamversion` | `stream`, `stream_version` |
| `subject`, for people to read | `stream` |
| `correlationid`, `causationid` | the headers `correlation_id`, `causation_id` |
| any other extension attribute | the header of the same name |
| `otherheaders`, a JSON object | the headers that cannot be extension attributes |

A message that was received has an id of its own, made from the event's `source` and `id`. So two events of different
sources are different messages, whatever their ids. The headers `id` and `source` keep what the sender wrote.

A message has no time, so its event has no `time`. Send events in structured mode: there, data can be any JSON value.
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid5

import msgspec
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.v1.event import CloudEvent

from es_django.core.errors import InvalidStreamId
from es_django.core.streams import StreamId
from es_django.messages.errors import InvalidCloudEvent
from es_django.messages.message import Message

JSON = "application/json"
EVENT_NAMESPACE = UUID("3ba9afb8-9f0b-4b1e-8c1b-5d5f3d1b7d0e")
"""The UUID namespace of message ids that are derived from the (source, id) of an event."""

_ATTRIBUTE_OF_HEADER = {"correlation_id": "correlationid", "causation_id": "causationid"}
_HEADER_OF_ATTRIBUTE = {attribute: header for header, attribute in _ATTRIBUTE_OF_HEADER.items()}
_OTHER_HEADERS = "otherheaders"
_RESERVED_ATTRIBUTES = frozenset(
    {"specversion", "id", "type", "source", "subject", "time", "data", "datacontenttype", "dataschema", "partitionkey"}
    | {"streamcategory", "streamkey", "streamversion", _OTHER_HEADERS, *_HEADER_OF_ATTRIBUTE}
)
_EXTENSION_NAME = re.compile(r"[a-z0-9]{1,20}")


def to_cloudevent(message: Message) -> CloudEvent:
    """Return the CloudEvent of a message. The data of the message must be decoded JSON."""
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(message.message_id),
        "type": message.type,
        "source": f"/{quote(message.destination, safe='')}",
        "datacontenttype": JSON,
    }
    if message.key is not None:
        attributes["partitionkey"] = message.key
    if message.stream is not None:
        attributes["subject"] = _subject(message.stream)
        attributes["streamcategory"] = message.stream.category
        attributes["streamkey"] = message.stream.key
    if message.stream_version is not None:
        # As text, because an integer attribute of a CloudEvent has 32 bits.
        attributes["streamversion"] = str(message.stream_version)
    others = {}
    for name, value in message.headers.items():
        if _can_be_attribute(name, value):
            attributes[_ATTRIBUTE_OF_HEADER.get(name, name)] = value
        else:
            others[name] = value
    if others:
        attributes[_OTHER_HEADERS] = json.dumps(others)
    return make_cloudevent(attributes, message.data)


def make_cloudevent(attributes: dict[str, Any], data: Any) -> CloudEvent:
    """Return an event that has only these attributes.

    Without an id or time, `CloudEvent` itself adds a new one, and a repeated event would differ from the first. This
    function adds none. Raise `cloudevents.core.exceptions.CloudEventValidationError` if an attribute is missing or
    invalid.
    """
    event = CloudEvent({"id": None, "specversion": None, **attributes}, data)
    if "time" not in attributes:
        del event.get_attributes()["time"]
    return event


def from_cloudevent(event: BaseCloudEvent) -> Message:
    """Return the message of an event that es_django or any other producer made.

    - An id is unique only within its source, even if it is a UUID. So the message id is a UUID derived from the source
      and the id. The headers `id` and `source` keep both.
    - Attributes that are not fields of a message become headers: `source`, `subject`, `time`, `dataschema`, and a
      `datacontenttype` other than JSON.
    - Binary data becomes base64 text, with the header `datacontentencoding`.

    Raise `InvalidCloudEvent` if an attribute is invalid.
    """
    attributes = dict(event.get_attributes())
    content_type = attributes.pop("datacontenttype", JSON)
    del attributes["specversion"]
    others = _decoded_headers(attributes.pop(_OTHER_HEADERS, "{}"))
    key, version = attributes.pop("partitionkey", None), attributes.pop("streamversion", None)
    message_type, stream = attributes.pop("type"), _pop_stream(attributes)
    headers = {_HEADER_OF_ATTRIBUTE.get(name, name): _text(value) for name, value in attributes.items()}
    if content_type != JSON:
        headers["datacontenttype"] = content_type
    data: Any = event.get_data()
    if isinstance(data, bytes):
        data = b64encode(data).decode()
        headers["datacontentencoding"] = "base64"
    return Message(
        type=message_type,
        data=data,
        key=None if key is None else _text(key),
        headers={**headers, **others},
        message_id=message_id_of(attributes["source"], attributes["id"]),
        stream=stream,
        stream_version=None if version is None else _integer("streamversion", version),
    )


def message_id_of(source: str, given_id: str) -> UUID:
    """Return the message id of the event that has this source and id."""
    return uuid5(EVENT_NAMESPACE, json.dumps([source, given_id]))


def _can_be_attribute(name: str, value: str) -> bool:
    is_allowed = name in _ATTRIBUTE_OF_HEADER or (_EXTENSION_NAME.fullmatch(name) and name not in _RESERVED_ATTRIBUTES)
    return bool(is_allowed and value and value.isprintable())


def _subject(stream: StreamId) -> str:
    return f"{quote(stream.category, safe='')}/{quote(stream.key, safe='')}"


def _pop_stream(attributes: dict[str, Any]) -> StreamId | None:
    if not {"streamcategory", "streamkey"} <= attributes.keys():
        return None
    try:
        stream = StreamId(attributes.pop("streamcategory"), attributes.pop("streamkey"))
    except InvalidStreamId as error:
        raise InvalidCloudEvent(str(error)) from error
    if attributes.get("subject") == _subject(stream):
        del attributes["subject"]
    return stream


def _decoded_headers(text: object) -> Mapping[str, str]:
    try:
        return msgspec.json.decode(_text(text), type=dict[str, str])
    except msgspec.DecodeError as error:
        raise InvalidCloudEvent(f"{_OTHER_HEADERS} is not a JSON object of strings") from error


def _integer(name: str, value: object) -> int:
    try:
        return int(_text(value))
    except ValueError as error:
        raise InvalidCloudEvent(f"{name} is not an integer") from error


def _text(value: object) -> str:
    """Return an attribute's value in the canonical string form of its CloudEvents type."""
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime) else str(value)
