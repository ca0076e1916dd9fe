"""Receives CloudEvents over HTTP and handles them before it answers, so that the answer is true.

The sender keeps what is not answered with a 2xx, and sends it again after a 503. A repeat is harmless: the receipts
know what was handled.
"""

import logging

from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from es_django import conf
from es_django.inbox.parsing import read_messages
from es_django.inbox.processing import handle
from es_django.inbox.receipts import Outcome
from es_django.messages.errors import InvalidCloudEvent
from es_django.messages.signatures import is_signed

logger: logging.Logger = logging.getLogger("es_django.inbox")

RETRY_AFTER = 30
"""Seconds that a sender is asked to wait."""
LONGEST_LENGTH = 18
"""Digits of a Content-Length that can be one."""


@csrf_exempt
@require_POST
def ingress(request: HttpRequest) -> HttpResponse:
    """Handles the CloudEvents of a request, signed after Standard Webhooks, by the handlers of their types.

    | status | |
    | --- | --- |
    | 204 | handled, now or before |
    | 202 | nobody handles this type, and the ingress is not strict |
    | 400 | no CloudEvent, or one that cannot be stored; nothing of the request was handled |
    | 401 | no valid signature |
    | 403 | no secret is configured |
    | 404 | nobody handles this type |
    | 413 | more than MAX_BYTES |
    | 422 | a handler will never accept it; it is kept as dead |
    | 503 | to be sent again after `Retry-After` seconds |

    The events of a batch are handled each on its own, whatever becomes of the others, and the worst decides: 503, then
    422, then 404. A signature covers the body, and so not the attributes of a binary event, which are headers.
    """
    try:
        return _answer(request)
    except UnreadablePostError:
        return _refusal(400, "the request ended too soon")
    except Exception:
        logger.exception("the ingress failed", extra={"path": request.path})
        return _try_again()


# Each message has a transaction of its own, which must be committed before the answer.
for _alias in connections:
    ingress = transaction.non_atomic_requests(using=_alias)(ingress)


def _answer(request: HttpRequest) -> HttpResponse:
    limits = conf.settings().ingress
    if not limits.secrets:
        return _refusal(403, "messages are not accepted here")
    body = _body(request, limits.max_bytes)
    if body is None:
        return _refusal(413, f"more than {limits.max_bytes} bytes")
    if not is_signed(request.headers, body):
        return _refusal(401, "no valid signature")
    try:
        messages = read_messages(request.headers, body)
    except InvalidCloudEvent as error:
        return _refusal(400, str(error))
    outcome = max((handle(message) for message in messages), default=Outcome.HANDLED)
    if outcome is Outcome.POSTPONED:
        return _try_again()
    if outcome is Outcome.DEAD:
        return _refusal(422, "rejected")
    if outcome is Outcome.NO_HANDLER:
        return _refusal(404, "nobody handles this type of event") if limits.strict else HttpResponse(status=202)
    return HttpResponse(status=204)


def _body(request: HttpRequest, max_bytes: int) -> bytes | None:
    """The request's body, or None if it is longer than that, whether or not it says so."""
    announced = request.headers.get("Content-Length", "")
    if announced.isdecimal() and (len(announced) > LONGEST_LENGTH or int(announced) > max_bytes):
        return None
    body = b""
    while len(body) <= max_bytes and (chunk := request.read(max_bytes + 1 - len(body))):
        body += chunk
    return None if len(body) > max_bytes else body


def _refusal(status: int, reason: str) -> HttpResponse:
    return HttpResponse(f"{reason}\n", status=status, content_type="text/plain; charset=utf-8")


def _try_again() -> HttpResponse:
    return HttpResponse(status=503, headers={"Retry-After": str(RETRY_AFTER)})
