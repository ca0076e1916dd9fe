"""Set the metadata of all events and messages that a request writes."""

import re
from contextlib import AbstractContextManager
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from uuid_utils.compat import uuid7

from es_django.core.metadata import metadata

_REQUEST_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


@sync_and_async_middleware
def metadata_middleware(get_response: Any) -> Any:
    """Set the `correlation_id` and the `user` of every event and message that a request writes.

    The correlation id is the first of these that is present and well-formed:

    1. the `X-Request-ID` header
    2. the trace id of the `traceparent` header
    3. a new UUID

    The user is the name of `request.user`. The name is read only if the request writes an event or a message. List this
    middleware after `AuthenticationMiddleware`.
    """

    async def respond_async(request: HttpRequest) -> HttpResponseBase:
        with _metadata_of(request):
            response: HttpResponseBase = await get_response(request)
            return response

    def respond(request: HttpRequest) -> HttpResponseBase:
        with _metadata_of(request):
            response: HttpResponseBase = get_response(request)
            return response

    return respond_async if iscoroutinefunction(get_response) else respond


def _metadata_of(request: HttpRequest) -> AbstractContextManager[None]:
    return metadata(correlation_id=_correlation_id(request), user=lambda: _user(request))


def _correlation_id(request: HttpRequest) -> str:
    request_id = request.headers.get("X-Request-ID", "")
    if _REQUEST_ID.fullmatch(request_id):
        return request_id
    trace = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    return trace[1] if trace else str(uuid7())


def _user(request: HttpRequest) -> str | None:
    user = getattr(request, "user", None)
    return user.get_username() or None if user is not None else None
