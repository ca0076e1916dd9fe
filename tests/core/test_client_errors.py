"""Errors of common clients are retryable if they concern the moment, not the request."""

import email.utils
import ftplib
import http.client
import io
import smtplib
import ssl
import time
import urllib.error
from collections.abc import Callable, Mapping
from email.message import Message as Headers
from typing import Any

import httpx
import pytest
import requests
import urllib3

from es_django.core.client_errors import retry_after
from es_django.errors import is_retryable

RETRYABLE_STATUSES = [408, 425, 429, 500, 502, 503, 504]
FINAL_STATUSES = [400, 401, 403, 404, 409, 410, 413, 422, 501]


def of_requests(status: int, headers: Mapping[str, str]) -> Exception:
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers)
    return requests.HTTPError(response=response)


def of_httpx(status: int, headers: Mapping[str, str]) -> Exception:
    request = httpx.Request("GET", "https://example.org")
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(status, headers=headers))


def of_urllib(status: int, headers: Mapping[str, str]) -> Exception:
    fields = Headers()
    for name, value in headers.items():
        fields[name] = value
    return urllib.error.HTTPError("https://example.org", status, "", fields, io.BytesIO())


def named(path: str, *bases: str, **attributes: Any) -> Exception:
    """Return an error like that of a client that is not installed here."""
    kind: type[Exception] = Exception
    for each in (*bases, path):
        module, name = each.rsplit(".", 1)
        kind = type(name, (kind,), {"__module__": module, **attributes})
    return kind()


def of_aiohttp(status: int, headers: Mapping[str, str]) -> Exception:
    return named("aiohttp.client_exceptions.ClientResponseError", status=status, headers=headers)


def aws(code: str, status: int) -> Exception:
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return named("botocore.exceptions.ClientError", response=response)


CLIENTS = [of_requests, of_httpx, of_urllib, of_aiohttp]

REQUEST = httpx.Request("GET", "https://example.org")
RETRYABLE = [
    smtplib.SMTPServerDisconnected("Connection unexpectedly closed"),
    smtplib.SMTPConnectError(421, "busy"),
    smtplib.SMTPResponseException(451, "later"),
    smtplib.SMTPDataError(452, "full"),
    smtplib.SMTPSenderRefused(451, b"later", "a@example.org"),
    smtplib.SMTPRecipientsRefused({"a@example.org": (450, b"greylisted")}),
    ftplib.error_temp("421"),
    http.client.RemoteDisconnected(""),
    http.client.IncompleteRead(b""),
    ssl.SSLEOFError(),
    urllib.error.URLError("down"),
    requests.ConnectionError(),
    requests.ReadTimeout(),
    requests.exceptions.ChunkedEncodingError(),
    httpx.ConnectError(""),
    httpx.ReadTimeout(""),
    httpx.PoolTimeout(""),
    httpx.RemoteProtocolError(""),
    urllib3.exceptions.ProtocolError("reset"),
    urllib3.exceptions.MaxRetryError(None, "/"),  # type: ignore[arg-type]
    urllib3.exceptions.NewConnectionError(None, "refused"),  # type: ignore[arg-type]
    urllib3.exceptions.ReadTimeoutError(None, "/", "slow"),  # type: ignore[arg-type]
    named("aiohttp.client_exceptions.ServerDisconnectedError", "aiohttp.client_exceptions.ClientConnectionError"),
    named("botocore.exceptions.EndpointConnectionError"),
    named("botocore.exceptions.ReadTimeoutError", "botocore.exceptions.HTTPClientError"),
    named("botocore.exceptions.ConnectTimeoutError", "botocore.exceptions.ConnectionError"),
    aws("ThrottlingException", 400),
    aws("InternalError", 500),
    aws("SlowDown", 503),
    named("redis.exceptions.BusyLoadingError"),
]
FINAL = [
    smtplib.SMTPResponseException(550, "no such user"),
    smtplib.SMTPDataError(554, "spam"),
    smtplib.SMTPAuthenticationError(535, b"wrong password"),
    smtplib.SMTPRecipientsRefused({"a@example.org": (550, b"unknown")}),
    smtplib.SMTPRecipientsRefused({"a@example.org": (450, b"later"), "b@example.org": (550, b"unknown")}),
    smtplib.SMTPNotSupportedError(),
    ftplib.error_perm("550"),
    ssl.SSLCertVerificationError(),
    httpx.UnsupportedProtocol(""),
    requests.exceptions.InvalidURL(),
    requests.exceptions.MissingSchema(),
    aws("AccessDenied", 403),
    aws("ValidationException", 400),
    named("shop.HTTPError"),
]


class TestClientErrors:
    @pytest.mark.parametrize("client", CLIENTS)
    @pytest.mark.parametrize("status", RETRYABLE_STATUSES)
    def test_fault_b4_a_status_of_the_moment_is_retryable(self, status: int, client: Callable[..., Exception]) -> None:
        assert is_retryable(client(status, {}))

    @pytest.mark.parametrize("client", CLIENTS)
    @pytest.mark.parametrize("status", FINAL_STATUSES)
    def test_fault_b4_a_status_of_the_request_is_not_retryable(
        self, status: int, client: Callable[..., Exception]
    ) -> None:
        assert not is_retryable(client(status, {}))

    @pytest.mark.parametrize("error", RETRYABLE, ids=lambda error: f"{type(error).__module__}.{type(error).__name__}")
    def test_fault_b4_lost_connections_and_temporary_replies_are_retryable(self, error: Exception) -> None:
        assert is_retryable(error)

    @pytest.mark.parametrize("error", FINAL, ids=lambda error: f"{type(error).__module__}.{type(error).__name__}")
    def test_fault_b4_final_replies_and_wrong_addresses_are_not_retryable(self, error: Exception) -> None:
        assert not is_retryable(error)


class TestRetryAfter:
    @pytest.mark.parametrize("client", CLIENTS)
    def test_fault_b4_seconds_are_read(self, client: Callable[..., Exception]) -> None:
        assert retry_after(client(429, {"Retry-After": "120"})) == 120.0

    @pytest.mark.parametrize("client", CLIENTS)
    def test_fault_b4_a_date_is_read(self, client: Callable[..., Exception]) -> None:
        at = email.utils.formatdate(time.time() + 3600, usegmt=True)
        assert 3500 < (retry_after(client(503, {"Retry-After": at})) or 0) <= 3600

    @pytest.mark.parametrize("value", ["soon", "-1", "", "1.5.2", "Wed, 99 Foo 2026"])
    def test_fault_b4_other_values_are_ignored(self, value: str) -> None:
        assert retry_after(of_requests(429, {"Retry-After": value})) is None

    def test_fault_b4_other_errors_have_none(self) -> None:
        assert retry_after(ValueError()) is None
