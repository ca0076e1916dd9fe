"""Send messages to NATS JetStream, whose streams acknowledge each message."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.js.api import Header
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError, ServiceUnavailableError

from es_django import conf
from es_django.messages.message import Message
from es_django.outbox.errors import DestinationUnreachable, PublishError
from es_django.outbox.publishers import Publisher
from es_django.outbox.publishers.event_loop import require_real_threads, run
from es_django.outbox.publishers.serializers import format_named
from es_django.outbox.publishers.thread_local import PerThread

CONNECT_TIMEOUT = 5
HEADERS_OVERHEAD = len("NATS/1.0\r\n\r\n")
TOO_LARGE_FOR_STREAM = 10054
FULL_CODES = frozenset({10023, 10047, 10077, 10122})
"""Codes of JetStream: it has no resources or storage left, or the stream holds its maximum of messages or bytes."""
UNAVAILABLE = 503
SUBJECT = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")


class NatsPublisher(Publisher):
    """Publishes each message to the subject `<prefix>.<type>`, with the message's id as `Nats-Msg-Id`.

    | option | |
    | --- | --- |
    | `url` | the URL of a server, or a list of URLs: `nats://` or `tls://` |
    | `prefix` | the start of the subject; without a prefix, the subject is the message's type |
    | `format` | "cloudevents" (in structured mode) or "json" |

    The client needs an event loop, so this publisher raises `ImproperlyConfigured` in a worker of the pools gevent and
    eventlet. Its messages wait there.

    A message counts as published when a stream has acknowledged it. If a message is sent twice within the stream's
    `duplicate_window`, the stream stores it once. If no stream has the subject, the error is retryable, because a
    stream that has lost its leader gives the same error.
    """

    def __init__(self, url: str | Sequence[str], prefix: str = "", format: str = "cloudevents") -> None:
        require_real_threads(type(self).__name__)
        if prefix and not SUBJECT.fullmatch(prefix):
            raise ImproperlyConfigured(f"the option prefix must start a NATS subject, like shop.orders, not {prefix!r}")
        servers = [url] if isinstance(url, str) else list(url)
        if not servers or not all(_is_server(server) for server in servers):
            # The URL may hold a password, so the message does not show it.
            raise ImproperlyConfigured("the option url must be nats:// or tls:// with a host, or a list of such URLs")
        self._prefix = prefix
        self._format = format_named(format)
        self._connection = PerThread(lambda: run(_Connection.open(servers)), lambda connection: run(connection.close()))

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        # A later acknowledgement could arrive after the claim has expired.
        timeout = conf.settings().outbox.lease / 2
        connection = self._connection.get()
        try:
            outcomes = run(self._publish(connection, messages, timeout))
        except Exception as error:
            self._connection.discard()
            return [PublishError(_describe(error))] * len(messages)
        if connection.lost.is_set():
            self._connection.discard()
        return outcomes

    async def _publish(
        self, connection: "_Connection", messages: Sequence[Message], timeout: float
    ) -> list[PublishError | None]:
        sending = [asyncio.create_task(self._send(connection, message, timeout)) for message in messages]
        sent = asyncio.gather(*sending, return_exceptions=True)
        lost = asyncio.create_task(connection.lost.wait())
        either: list[asyncio.Future[Any]] = [sent, lost]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        lost.cancel()
        # After a lost connection, the client itself would wait for each acknowledgement until its timeout.
        unsent = PublishError("the connection was lost before the stream acknowledged the message")
        outcomes = [task.result() if task.done() else unsent for task in sending]
        sent.cancel()
        return outcomes

    async def _send(self, connection: "_Connection", message: Message, timeout: float) -> PublishError | None:
        subject = f"{self._prefix}.{message.type}" if self._prefix else message.type
        if not SUBJECT.fullmatch(subject):
            return PublishError(f"the message's type gives an invalid NATS subject: {subject!r}", retryable=False)
        headers = {Header.MSG_ID.value: str(message.message_id), "Content-Type": self._format.content_type}
        try:
            await connection.publish(subject, self._format.encode(message), headers, timeout)
        except PublishError as error:
            return error
        except (NoStreamResponseError, NoRespondersError, ServiceUnavailableError, NotFoundError) as error:
            return DestinationUnreachable(f"no stream takes the message: {_describe(error)}")
        except APIError as error:
            if error.err_code in FULL_CODES or error.code == UNAVAILABLE:
                return DestinationUnreachable(_describe(error))
            return PublishError(_describe(error), retryable=error.err_code != TOO_LARGE_FOR_STREAM)
        except Exception as error:
            return PublishError(_describe(error))
        return None


class _Connection:
    """A connection that is not reopened after it is lost. The next batch opens a new one."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self._client = Client()
        self._error: Exception | None = None

    @classmethod
    async def open(cls, servers: list[str]) -> "_Connection":
        connection = cls()
        await connection._open(servers)
        return connection

    async def publish(self, subject: str, body: bytes, headers: dict[str, str], timeout: float) -> None:
        """Return when a stream has acknowledged the message.

        Raises:
            PublishError: the message is too large for the server.
            Exception: any error of the client.
        """
        size = len(body) + HEADERS_OVERHEAD + sum(len(name) + len(value) + 4 for name, value in headers.items())
        # If this were sent, the server would close the connection, and all other messages would fail too.
        if size > self._client.max_payload:
            raise PublishError(
                f"the message has {size} bytes, and the server accepts {self._client.max_payload}", retryable=False
            )
        await self._client.jetstream().publish(subject, body, timeout=timeout, headers=headers)

    async def close(self) -> None:
        await self._client.close()

    async def _open(self, servers: list[str]) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._client.connect(
                    servers,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=CONNECT_TIMEOUT,
                    error_cb=self._keep_error,
                    closed_cb=self._mark_lost,
                )
        except BaseException as error:
            await self._client.close()
            raise (self._error or error) from None

    async def _keep_error(self, error: Exception) -> None:
        self._error = error

    async def _mark_lost(self) -> None:
        self.lost.set()


def _is_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("nats", "tls") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
