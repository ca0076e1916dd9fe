"""Read the CloudEvents in an HTTP request: binary, structured or batched. Reject malformed events."""

import base64
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cloudevents.core.base import BaseCloudEvent, EventFactory
from cloudevents.core.bindings.http import CE_PREFIX, HTTPMessage, from_binary, from_structured
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat

from es_django.core.errors import PayloadError
from es_django.core.serialization import encode_payload
from es_django.inbox.errors import BatchTooLarge
from es_django.messages.cloudevents import JSON, from_cloudevent, make_cloudevent
from es_django.messages.errors import InvalidCloudEvent
from es_django.messages.message import Message

STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


def read_messages(headers: Mapping[str, str], body: bytes, *, max_events: int) -> list[Message]:
    """Return the messages of a request's CloudEvents: one message, or several if the request is a batch.

    Raises:
        InvalidCloudEvent: An event is malformed, or a database cannot store it.
        BatchTooLarge: The request is a batch of more than `max_events` events.
    """
    content_type = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    media_type = content_type.partition(";")[0].strip().lower()
    request = HTTPMessage(dict(headers), body)
    try:
        if media_type == BATCH:
            events = _batch(body, max_events)
        elif media_type == STRUCTURED:
            events = [from_structured(request, _format, make_cloudevent)]
        elif media_type.startswith("application/cloudevents"):
            raise InvalidCloudEvent(f"the content type must be {STRUCTURED} or {BATCH}")
        elif any(name.lower().startswith(CE_PREFIX) for name in headers):
            events = [from_binary(request, _format, make_cloudevent)]
        else:
            raise InvalidCloudEvent(f"the request must have ce- headers, or the content type {STRUCTURED} or {BATCH}")
    except CloudEventValidationError as error:
        reasons = ", ".join(str(reason) for reasons in error.errors.values() for reason in reasons)
        raise InvalidCloudEvent(reasons) from error
    except ValueError as error:
        raise InvalidCloudEvent(str(error)) from error
    except RecursionError as error:
        raise InvalidCloudEvent("the JSON is nested too deeply") from error
    return [_require_storable(from_cloudevent(event)) for event in events]


class _StrictJSON(JSONFormat):
    """The JSON format of the cloudevents package, with strict checks.

    The package itself accepts duplicate names, treats broken JSON as plain text, skips invalid characters in base64,
    and allows attributes of any type. This class rejects all four.
    """

    def read(self, event_factory: EventFactory | None, data: str | bytes) -> BaseCloudEvent:
        return _event(_strict_json(data))

    def read_data(self, body: bytes, datacontenttype: str | None) -> Any:
        if not body:
            return None
        if re.match(self.JSON_CONTENT_TYPE_PATTERN, datacontenttype or JSON):
            return _strict_json(body)
        try:
            return body.decode()
        except UnicodeDecodeError:
            return body


_format = _StrictJSON()


def _batch(body: bytes, max_events: int) -> list[BaseCloudEvent]:
    events = _strict_json(body)
    if not isinstance(events, list):
        raise InvalidCloudEvent("a batch must be a JSON array")
    if len(events) > max_events:
        raise BatchTooLarge(len(events), max_events)
    return [_event(fields) for fields in events]


def _event(fields: object) -> BaseCloudEvent:
    if not isinstance(fields, dict):
        raise InvalidCloudEvent("an event must be a JSON object")
    if "data" in fields and "data_base64" in fields:
        raise InvalidCloudEvent("an event must not have both data and data_base64")
    data, encoded = fields.pop("data", None), fields.pop("data_base64", None)
    attributes = {name: value for name, value in fields.items() if value is not None}
    for name, value in attributes.items():
        if not isinstance(value, (str, bool, int)):
            raise InvalidCloudEvent(f"{name!r} must be a string, an integer or a boolean")
    if "time" in attributes:
        attributes["time"] = datetime.fromisoformat(str(attributes["time"]))
    if isinstance(encoded, str):
        data = _format.read_data(base64.b64decode(encoded, validate=True), attributes.get("datacontenttype"))
    elif encoded is not None:
        raise InvalidCloudEvent("data_base64 must be a string")
    return make_cloudevent(attributes, data)


def _strict_json(text: str | bytes) -> Any:
    # Decode here, because the specification allows only UTF-8, and `json.loads` would accept other encodings.
    decoded = text if isinstance(text, str) else text.decode()
    return json.loads(decoded, object_pairs_hook=_require_unique_names)


def _require_unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise InvalidCloudEvent("a name appears twice in one JSON object")
    return fields


def _require_storable(message: Message) -> Message:
    try:
        encode_payload(message, "message")
    except PayloadError as error:
        raise InvalidCloudEvent(str(error)) from error
    return message
