"""Receive CloudEvents over HTTP. Respond only after the events were handled, so that the sender can trust the status.

The sender keeps an event until it gets a 2xx response, and sends the event again after a 503. Receipts make repeated
events harmless.
"""

from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from es_django import conf
from es_django.core.logs import Log
from es_django.inbox.errors import BatchTooLarge
from es_django.inbox.parsing import read_messages
from es_django.inbox.processing import handle
from es_django.inbox.receipts import Outcome
from es_django.messages.errors import InvalidCloudEvent
from es_django.messages.signatures import is_signed

logger: Log = Log("es_django.inbox")

RETRY_AFTER = 30
"""Seconds for which a sender must wait before it sends a request again."""
MAX_LENGTH_DIGITS = 18
"""A Content-Length with more digits exceeds every limit, so it is not parsed."""


@csrf_exempt
@require_POST
def ingress(request: HttpRequest) -> HttpResponse:
    """Run the handlers of the CloudEvents in a request, which must be signed as a Standard Webhook.

    | status | |
    | --- | --- |
    | 204 | each event has been handled, now or earlier |
    | 202 | no handler takes this type, and the setting STRICT is off: the event is dropped |
    | 400 | the body is not a CloudEvent, or an event cannot be stored; no event of the request was handled |
    | 401 | the signature is not valid |
    | 403 | no secret is configured |
    | 404 | no handler takes this type, and the setting STRICT is on |
    | 409 | other content with the same source and id was handled before; this event is refused, and kept as dead |
    | 413 | the body is longer than MAX_BYTES, or a batch has more than MAX_EVENTS events; no event was handled |
    | 422 | a handler failed with an error that is not retryable; the event is kept as dead |
    | 503 | the sender must send the request again after `Retry-After` seconds |

    Each event of a batch is handled independently of the others. The worst result decides the status: 503, then 409,
    then 422, then 404 or 202. The signature covers only the body. In binary mode the attributes of an event are
    headers, so they are not signed.
    """
    try:
        return _respond(request)
    except UnreadablePostError:
        return _refusal(400, "the request ended before its body was complete")
    except Exception:
        logger.exception("the ingress failed: the sender must send the request again", extra={"path": request.path})
        return _send_again()


# Each message has a transaction of its own, which must commit before the response is sent. So the view opts out of
# ATOMIC_REQUESTS.
for _alias in connections:
    ingress = transaction.non_atomic_requests(using=_alias)(ingress)


def _respond(request: HttpRequest) -> HttpResponse:
    limits = conf.settings().ingress
    if not limits.secrets:
        return _refusal(403, "messages are not accepted here: no secret is configured")
    body = _body(request, limits.max_bytes)
    if body is None:
        return _refusal(413, f"the body is longer than MAX_BYTES ({limits.max_bytes} bytes)")
    if not is_signed(request.headers, body):
        return _refusal(401, "the signature is not valid")
    try:
        messages = read_messages(request.headers, body, max_events=limits.max_events)
    except BatchTooLarge as error:
        return _refusal(413, str(error))
    except InvalidCloudEvent as error:
        return _refusal(400, str(error))
    outcome = max((handle(message) for message in messages), default=Outcome.HANDLED)
    if outcome is Outcome.POSTPONED:
        return _send_again()
    if outcome is Outcome.CONFLICT:
        return _refusal(409, "an event with this source and id was handled before, with other content: use a new id")
    if outcome is Outcome.DEAD:
        return _refusal(422, "a handler failed permanently: do not send the event again")
    if outcome is Outcome.NO_HANDLER:
        return _refusal(404, "no handler takes this type of event") if limits.strict else HttpResponse(status=202)
    return HttpResponse(status=204)


def _body(request: HttpRequest, max_bytes: int) -> bytes | None:
    """Return the request's body, or None if it is longer than `max_bytes`, with or without a Content-Length."""
    announced = request.headers.get("Content-Length", "")
    if announced.isdecimal() and (len(announced) > MAX_LENGTH_DIGITS or int(announced) > max_bytes):
        return None
    body = b""
    while len(body) <= max_bytes and (chunk := request.read(max_bytes + 1 - len(body))):
        body += chunk
    return None if len(body) > max_bytes else body


def _refusal(status: int, reason: str) -> HttpResponse:
    return HttpResponse(f"{reason}\n", status=status, content_type="text/plain; charset=utf-8")


def _send_again() -> HttpResponse:
    return HttpResponse(status=503, headers={"Retry-After": str(RETRY_AFTER)})
