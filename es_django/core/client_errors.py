"""Recognise the transient errors of common client libraries without importing the libraries."""

from collections.abc import Iterator
from typing import Any

from es_django.core.retry_after import seconds_asked

_RETRYABLE_STATUSES = frozenset({408, 421, 423, 425, 429, 500, 502, 503, 504})
"""HTTP statuses that concern the moment, not the request: timeouts, locks, rate limits, and failures of the server."""
_TEMPORARY_REPLIES = range(400, 500)
"""SMTP and FTP replies that ask for a later attempt. Replies from 500 on are final."""
_RETRYABLE_CODES = frozenset(
    {
        *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException"),
        *("TooManyRequestsException", "ProvisionedThroughputExceededException", "RequestLimitExceeded", "SlowDown"),
        *(
            "BandwidthLimitExceeded",
            "LimitExceededException",
            "TransactionInProgressException",
            "PriorRequestNotComplete",
        ),
        *("RequestTimeout", "RequestTimeoutException", "InternalError", "InternalFailure", "InternalServerError"),
        *("ServiceUnavailable", "ServiceUnavailableException", "EC2ThrottledException"),
    }
)
"""Error codes of AWS that its own clients retry."""
_RETRYABLE = frozenset(
    {
        *("smtplib.SMTPServerDisconnected", "smtplib.SMTPConnectError"),
        *("imaplib.abort", "poplib.error_proto", "ftplib.error_temp"),
        *("http.client.IncompleteRead", "http.client.RemoteDisconnected", "http.client.BadStatusLine"),
        *("ssl.SSLEOFError", "ssl.SSLZeroReturnError", "ssl.SSLSyscallError"),
        *("requests.exceptions.ConnectionError", "requests.exceptions.Timeout"),
        *("requests.exceptions.ChunkedEncodingError", "requests.exceptions.RetryError"),
        *("httpx.TransportError", "httpcore.TimeoutException", "httpcore.NetworkError"),
        *("httpcore.RemoteProtocolError", "httpcore.ConnectionNotAvailable"),
        *("urllib3.exceptions.TimeoutError", "urllib3.exceptions.ProtocolError", "urllib3.exceptions.MaxRetryError"),
        *("urllib3.exceptions.NewConnectionError", "urllib3.exceptions.PoolError"),
        *("aiohttp.client_exceptions.ClientConnectionError", "aiohttp.client_exceptions.ClientPayloadError"),
        *("botocore.exceptions.ConnectionError", "botocore.exceptions.HTTPClientError"),
        *("botocore.exceptions.EndpointConnectionError", "botocore.exceptions.IncompleteReadError"),
        *("redis.exceptions.ConnectionError", "redis.exceptions.TimeoutError", "redis.exceptions.TryAgainError"),
        *("redis.exceptions.BusyLoadingError", "redis.exceptions.ReadOnlyError", "redis.exceptions.ClusterDownError"),
    }
)
_FINAL = frozenset(
    {
        *("httpx.UnsupportedProtocol", "httpx.LocalProtocolError", "requests.exceptions.InvalidProxyURL"),
        *("aiohttp.client_exceptions.ClientConnectorCertificateError", "botocore.exceptions.ProxyConnectionError"),
        "ssl.SSLCertVerificationError",
    }
)
"""Errors of a wrong address or set-up, although their base classes are transient."""


def client_error_is_retryable(error: BaseException) -> bool | None:
    """Return whether a retry can succeed after an error of an HTTP, mail or cloud client. None for any other error."""
    names = list(_names(error))
    if any(name in _FINAL for name in names):
        return False
    status = _status(error)
    if status is not None:
        return status in _RETRYABLE_STATUSES
    if any(name == "smtplib.SMTPResponseException" for name in names) and "smtplib.SMTPConnectError" not in names:
        return getattr(error, "smtp_code", 0) in _TEMPORARY_REPLIES
    if "smtplib.SMTPRecipientsRefused" in names:
        replies: dict[str, tuple[int, bytes]] = getattr(error, "recipients", {})
        return bool(replies) and all(code in _TEMPORARY_REPLIES for code, _ in replies.values())
    if "botocore.exceptions.ClientError" in names:
        return _aws_is_retryable(getattr(error, "response", None))
    return True if any(name in _RETRYABLE for name in names) else None


def retry_after(error: BaseException) -> float | None:
    """Return the seconds of the `Retry-After` header of the response in an error of an HTTP client, if there is one."""
    response: Any = getattr(error, "response", None)
    headers: Any = getattr(error, "headers", None) if response is None else getattr(response, "headers", None)
    try:
        return seconds_asked(str(headers["Retry-After"]))
    except (LookupError, TypeError):
        return None  # there is no such header, or there are no headers


def _names(error: BaseException) -> Iterator[str]:
    for kind in type(error).__mro__:
        # The public name: `httpx._exceptions.ReadTimeout` is `httpx.ReadTimeout`.
        module = ".".join(part for part in kind.__module__.split(".") if not part.startswith("_"))
        yield f"{module}.{kind.__qualname__}"


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of an error that a client made from a response."""
    if not any(
        kind.__name__ in ("HTTPError", "HTTPStatusError", "ClientResponseError") for kind in type(error).__mro__
    ):
        return None
    response = getattr(error, "response", None)
    for owner, field in ((response, "status_code"), (error, "code"), (error, "status")):
        status = getattr(owner, field, None)
        if isinstance(status, int):
            return status
    return None


def _aws_is_retryable(response: Any) -> bool:
    if not isinstance(response, dict):
        return False
    code = response.get("Error", {}).get("Code")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return code in _RETRYABLE_CODES or status in _RETRYABLE_STATUSES
