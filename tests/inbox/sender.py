"""Sends signed CloudEvents to the ingress in each of the three modes, as another system does."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cloudevents.core.bindings import http
from cloudevents.core.v1.event import CloudEvent
from django.http import HttpResponse
from django.test import Client
from standardwebhooks import Webhook

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes, 25.").decode()
OLD_SECRET = "whsec_" + base64.b64encode(b"an older secret, of 28 bytes").decode()
STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
URL = "/events/"


def fields(**attributes: Any) -> dict[str, Any]:
    """Return a structured event. None leaves an attribute out."""
    given = {"specversion": "1.0", "id": "17", "type": "tests.noted", "source": "/shop", "data": {"number": 1}}
    return {name: value for name, value in {**given, **attributes}.items() if value is not None}


def signature(body: bytes, *, secret: str = SECRET, age: timedelta = timedelta(0)) -> dict[str, str]:
    moment = datetime.now(UTC) - age
    return {
        "webhook-id": "m-1",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign("m-1", moment, body.decode()),
    }


def post(body: bytes | str, content_type: str = STRUCTURED, headers: dict[str, str] | None = None) -> HttpResponse:
    """Post a signed body. `headers` add to the headers of the signature, or replace them."""
    body = body if isinstance(body, bytes) else body.encode()
    client = Client(enforce_csrf_checks=True)
    all_headers = {**signature(body), **(headers or {})}
    response: Any = client.post(URL, body, content_type=content_type, headers=all_headers)
    return response  # type: ignore[no-any-return]


def send(**attributes: Any) -> HttpResponse:
    return post(json.dumps(fields(**attributes)))


def send_binary(data: Any = None, **attributes: Any) -> HttpResponse:
    given = {"id": "17", "type": "tests.noted", "source": "/shop", "datacontenttype": "application/json", **attributes}
    message = http.to_binary_event(CloudEvent(given, {"number": 1} if data is None else data))
    headers = {name: value for name, value in message.headers.items() if name != "content-type"}
    return post(message.body, message.headers["content-type"], headers)


def send_batch(*events: dict[str, Any]) -> HttpResponse:
    return post(json.dumps(events), BATCH)
