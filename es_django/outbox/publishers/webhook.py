"""Send messages to an HTTP endpoint, signed as Standard Webhooks."""

import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from threading import Thread
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured
from httpcore import (
    URL,
    ConnectError,
    ConnectionPool,
    ConnectTimeout,
    NetworkError,
    ProtocolError,
    Request,
    Response,
    TimeoutException,
    default_ssl_context,
)

from es_django.messages.message import Message
from es_django.messages.signatures import signer
from es_django.outbox.errors import DestinationUnreachable, PublishError
from es_django.outbox.publishers import Publisher
from es_django.outbox.publishers.http_connections import Connector
from es_django.outbox.publishers.http_responses import FINAL_STATUSES, outcome_of
from es_django.outbox.publishers.public_addresses import PrivateAddress, addresses_of, public_addresses_of
from es_django.outbox.publishers.serializers import format_named
from es_django.outbox.publishers.thread_local import PerThread

MAX_CONCURRENT = 10
"""The most messages of a batch that are sent at the same time."""
MAX_RESPONSE_BYTES = 65536
"""At most this much of a response's body is read."""
MAX_RESPONSE_SECONDS = 1.0
"""The longest time for which a response's body is read."""
KEEP_ALIVE = 5.0
"""For how many seconds an unused connection stays open."""
IN_TARGET = "!$%&'()*+,/:;=?@[]~"
"""Characters of a URL's path and query that are sent as they are."""


class WebhookPublisher(Publisher):
    """Posts each message with the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`.

    | option | |
    | --- | --- |
    | `url` | the URL of the endpoint |
    | `secret` | the key that signs the messages: "whsec_" and the base64 of 24 to 64 bytes |
    | `timeout` | the longest wait for the start of a response, in seconds |
    | `allow_private` | True permits addresses outside the public Internet |
    | `format` | "cloudevents" (in structured mode) or "json" |
    | `final_statuses` | the statuses after which a message is not sent again |

    After a response that asks for a pause, the other messages of the batch are not sent.

    | response | outcome |
    | --- | --- |
    | any status | see `http_responses.outcome_of` |
    | no response in time | a retryable error |
    | no connection | `DestinationUnreachable` |
    | no connection, because the address is private | an error that is not retryable |

    Proxy settings in environment variables are ignored.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        timeout: float = 10.0,
        allow_private: bool = False,
        format: str = "cloudevents",
        final_statuses: Iterable[int] = FINAL_STATUSES,
    ) -> None:
        if timeout <= 0:
            raise ImproperlyConfigured(f"the option timeout must be more than 0 seconds, not {timeout!r}")
        self._endpoint = _endpoint(url)
        self._signer = signer(secret, "the option secret")
        self._timeout = timeout
        self._final_statuses = _statuses(final_statuses)
        self._format = format_named(format)
        # Each connection attempt gets a quarter of the time, so that other addresses of the host can be tried.
        connector = Connector(addresses_of if allow_private else public_addresses_of, patience=timeout / 4)
        trusted = default_ssl_context()
        trusted.load_default_certs()
        self._connections = PerThread(
            lambda: ConnectionPool(trusted, keepalive_expiry=KEEP_ALIVE, network_backend=connector),
            ConnectionPool.close,
        )

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        connections = self._connections.get()
        stop: DestinationUnreachable | None = None

        def send(message: Message) -> PublishError | None:
            nonlocal stop
            if stop is not None:
                return stop
            outcome = self._send(connections, message)
            if isinstance(outcome, DestinationUnreachable) and outcome.is_certain:
                stop = outcome
            return outcome

        return _in_threads(send, messages)

    def _send(self, connections: ConnectionPool, message: Message) -> PublishError | None:
        deadline = time.monotonic() + self._timeout
        deadlines = {"connect": deadline, "read": deadline, "write": deadline, "pool": self._timeout}
        try:
            body = self._format.encode(message)
            request = Request(
                "POST",
                self._endpoint.url,
                headers=[*self._endpoint.headers.items(), *self._headers(message, body).items()],
                content=body,
                extensions={"timeout": deadlines},
            )
            response = connections.handle_request(request)
        except PublishError as error:
            return error
        except PrivateAddress as error:
            return PublishError(str(error), retryable=False)
        except (ConnectError, ConnectTimeout) as error:
            if time.monotonic() >= deadline:
                return PublishError(f"no response within {self._timeout} seconds")
            return DestinationUnreachable(f"no connection: {_describe(error)}")
        except TimeoutException:
            return PublishError(f"no response within {self._timeout} seconds")
        except Exception as error:
            return PublishError(f"no response: {_describe(error)}")
        deadlines["read"] = time.monotonic() + MAX_RESPONSE_SECONDS
        _read_rest(response)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        return outcome_of(response.status, headers, final_statuses=self._final_statuses)

    def _headers(self, message: Message, body: bytes) -> dict[str, str]:
        message_id, now = str(message.message_id), datetime.now(UTC)
        return {
            "content-type": self._format.content_type,
            "content-length": str(len(body)),
            "user-agent": "es_django",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(message_id, now, body.decode()),
        }


def _in_threads(
    send: Callable[[Message], PublishError | None], messages: Sequence[Message]
) -> list[PublishError | None]:
    """Send the messages, several at once, and return their outcomes. If this is interrupted, send no others."""
    outcomes: dict[int, PublishError | None] = {}
    waiting = deque(enumerate(messages))

    def work() -> None:
        with suppress(IndexError):
            while True:
                index, message = waiting.popleft()
                outcomes[index] = send(message)

    threads = [Thread(target=work, daemon=True) for _ in messages[1:MAX_CONCURRENT]]
    try:
        for thread in threads:
            thread.start()
        work()
        for thread in threads:
            thread.join()
    finally:
        waiting.clear()
    return [outcomes[index] for index in range(len(messages))]


def _statuses(statuses: Iterable[int]) -> frozenset[int]:
    found = frozenset(statuses)
    if not all(isinstance(status, int) and 300 <= status <= 599 for status in found):
        raise ImproperlyConfigured(f"the option final_statuses must hold numbers from 300 to 599, not {statuses!r}")
    return found


def _read_rest(response: Response) -> None:
    """Read the body, so that the connection can be reused. If the body is long or slow, stop."""
    left = MAX_RESPONSE_BYTES
    with suppress(NetworkError, ProtocolError, TimeoutException):
        for part in response.iter_stream():
            left -= len(part)
            if left < 0:
                break
    response.close()


def _describe(error: BaseException) -> str:
    # Only class names are shown, because an error's message may quote the URL or a header.
    cause = error
    while (deeper := cause.__cause__ or cause.__context__) is not None:
        cause = deeper
    return type(error).__name__ if cause is error else f"{type(error).__name__} because of {type(cause).__name__}"


class _Endpoint(NamedTuple):
    url: URL
    headers: dict[str, str]
    """The host of the URL, and its user and password."""


def _endpoint(url: str) -> _Endpoint:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode()
        port = parts.port
    except (ValueError, AttributeError, TypeError):
        host = ""
    if not host or parts.scheme not in ("http", "https"):
        # The URL may hold a password, so the message does not show it.
        raise ImproperlyConfigured("the option url must be http:// or https:// with a host") from None
    written = f"[{host}]" if ":" in host else host
    headers = {"host": written if port is None else f"{written}:{port}"}
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    return _Endpoint(URL(scheme=parts.scheme, host=host, port=port, target=quote(target, safe=IN_TARGET)), headers)
