"""Set the metadata of all events and messages that a request writes."""

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from django.utils.functional import LazyObject, empty
from uuid_utils.compat import uuid7

from es_django import conf
from es_django.core.metadata import SteppedMetadata, Value, metadata

_REQUEST_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


@sync_and_async_middleware
def metadata_middleware(get_response: Any) -> Any:
    """Set the `correlation_id` and the `user` of every event and message that a request writes.

    The correlation id is the first of these that is present and well-formed:

    1. the `X-Request-ID` header
    2. the trace id of the `traceparent` header
    3. a new UUID

    The user is what the function ES_DJANGO["METADATA_USER"] returns for the request at each write; by default, see
    `primary_key_of_user`. The metadata also covers what a streaming response writes while it is sent. List this
    middleware after `AuthenticationMiddleware`.
    """

    async def respond_async(request: HttpRequest) -> HttpResponseBase:
        values = _values_of(request)
        with metadata(**values):
            response: HttpResponseBase = await get_response(request)
        return _covered(response, values)

    def respond(request: HttpRequest) -> HttpResponseBase:
        values = _values_of(request)
        with metadata(**values):
            response: HttpResponseBase = get_response(request)
        return _covered(response, values)

    return respond_async if iscoroutinefunction(get_response) else respond


def primary_key_of_user(request: HttpRequest) -> str | None:
    """Return the primary key of `request.user` if the request has loaded the user already. Make no query.

    `login_required`, permissions and authentication of an API load the user. A view that has not looked at
    `request.user` or `await request.auser()` has no user in its metadata. The id in the session is not used, because
    the session may have ended, for example with a new password.
    """
    user: Any = getattr(request, "user", None)
    # Looking at any attribute of a lazy user would load it.
    if isinstance(user, LazyObject) and user._wrapped is empty:
        user = getattr(request, "_acached_user", None)
    key = getattr(user, "pk", None)
    return None if key is None else str(key)


def _values_of(request: HttpRequest) -> Mapping[str, Value]:
    user_of = conf.settings().user_of
    return {"correlation_id": _correlation_id(request), "user": lambda: user_of(request)}


def _correlation_id(request: HttpRequest) -> str:
    request_id = request.headers.get("X-Request-ID", "")
    if _REQUEST_ID.fullmatch(request_id):
        return request_id
    trace = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    return trace[1] if trace else str(uuid7())


def _covered(response: HttpResponseBase, values: Mapping[str, Value]) -> HttpResponseBase:
    """Let the metadata cover each step of a streaming response. A file is left to the server, which may send it."""
    streaming: Any = response
    if response.streaming and getattr(response, "file_to_stream", None) is None:
        steps = _steps_async if streaming.is_async else _steps
        streaming.streaming_content = steps(streaming.streaming_content, SteppedMetadata(**values))
    return response


def _steps(parts: Iterator[bytes], covering: SteppedMetadata) -> Iterator[bytes]:
    while True:
        with covering.step():
            try:
                part = next(parts)
            except StopIteration:
                return
        yield part


async def _steps_async(parts: AsyncIterator[bytes], covering: SteppedMetadata) -> AsyncIterator[bytes]:
    while True:
        with covering.step():
            try:
                part = await anext(parts)
            except StopAsyncIteration:
                return
        yield part
