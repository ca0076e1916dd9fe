"""Send messages to an HTTP endpoint, signed as Standard Webhooks."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from socket import gaierror

import httpx
from django.core.exceptions import ImproperlyConfigured

from es_django.messages.message import Message
from es_django.messages.signatures import signer
from es_django.outbox.errors import DestinationUnreachable, PublishError
from es_django.outbox.publishers import Publisher
from es_django.outbox.publishers.event_loop import run
from es_django.outbox.publishers.http_responses import FINAL_STATUSES, outcome_of
from es_django.outbox.publishers.public_addresses import PrivateAddress, PublicTransport
from es_django.outbox.publishers.serializers import format_named
from es_django.outbox.publishers.thread_local import PerThread

MAX_CONCURRENT = 10
"""The most messages of a batch that are sent at the same time."""
MAX_RESPONSE_BYTES = 65536
"""At most this much of a response's body is read."""
MAX_RESPONSE_SECONDS = 1.0
"""The longest time for which a response's body is read."""


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
        self._url = _endpoint(url)
        self._signer = signer(secret, "the option secret")
        self._timeout = timeout
        self._final_statuses = _statuses(final_statuses)
        self._format = format_named(format)
        transport = httpx.AsyncHTTPTransport if allow_private else PublicTransport
        verify = httpx.create_ssl_context()
        self._client = PerThread(
            lambda: _client(transport(verify=verify), timeout),
            lambda client: run(client.aclose()),
        )

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        return run(self._publish(self._client.get(), messages))

    async def _publish(self, client: httpx.AsyncClient, messages: Sequence[Message]) -> list[PublishError | None]:
        slots = asyncio.Semaphore(MAX_CONCURRENT)
        stop: DestinationUnreachable | None = None

        async def send(message: Message) -> PublishError | None:
            nonlocal stop
            async with slots:
                if stop is not None:
                    return stop
                outcome = await self._send(client, message)
                if isinstance(outcome, DestinationUnreachable) and outcome.is_certain:
                    stop = outcome
                return outcome

        return await asyncio.gather(*map(send, messages))

    async def _send(self, client: httpx.AsyncClient, message: Message) -> PublishError | None:
        try:
            body = self._format.encode(message)
            request = client.build_request("POST", self._url, content=body, headers=self._headers(message, body))
            # httpx limits only each single read and write. A server that sends byte by byte would never time out.
            async with asyncio.timeout(self._timeout):
                response = await client.send(request, stream=True)
        except PublishError as error:
            return error
        except PrivateAddress as error:
            return PublishError(str(error), retryable=False)
        except (httpx.ConnectError, httpx.ConnectTimeout, gaierror) as error:
            return DestinationUnreachable(f"no connection: {_describe(error)}")
        except TimeoutError:
            return PublishError(f"no response within {self._timeout} seconds")
        except Exception as error:
            return PublishError(f"no response: {_describe(error)}")
        await _read_rest(response)
        return outcome_of(response.status_code, response.headers, final_statuses=self._final_statuses)

    def _headers(self, message: Message, body: bytes) -> dict[str, str]:
        message_id, now = str(message.message_id), datetime.now(UTC)
        return {
            "content-type": self._format.content_type,
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(message_id, now, body.decode()),
        }


def _client(transport: httpx.AsyncBaseTransport, timeout: float) -> httpx.AsyncClient:
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    # Each connection attempt gets a quarter of the time, so that other addresses of the host can be tried.
    steps = httpx.Timeout(timeout, connect=timeout / 4)
    return httpx.AsyncClient(transport=transport, cookies=no_cookies, timeout=steps, trust_env=False)


def _statuses(statuses: Iterable[int]) -> frozenset[int]:
    found = frozenset(statuses)
    if not all(isinstance(status, int) and 300 <= status <= 599 for status in found):
        raise ImproperlyConfigured(f"the option final_statuses must hold numbers from 300 to 599, not {statuses!r}")
    return found


async def _read_rest(response: httpx.Response) -> None:
    """Read the body, so that the connection can be reused. If the body is long or slow, stop."""
    left = MAX_RESPONSE_BYTES
    with suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(MAX_RESPONSE_SECONDS):
            async for part in response.aiter_raw():
                left -= len(part)
                if left < 0:
                    break
    await response.aclose()


def _describe(error: BaseException) -> str:
    # Only class names are shown, because an error's message may quote the URL or a header.
    cause = error
    while (deeper := cause.__cause__ or cause.__context__) is not None:
        cause = deeper
    return type(error).__name__ if cause is error else f"{type(error).__name__} because of {type(cause).__name__}"


def _endpoint(url: str) -> httpx.URL:
    try:
        endpoint = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        endpoint = httpx.URL("")
    if endpoint.scheme not in ("http", "https") or not endpoint.host:
        # The URL may hold a password, so the message does not show it.
        raise ImproperlyConfigured("the option url must be http:// or https:// with a host")
    return endpoint
