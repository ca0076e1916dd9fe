"""Whether an exception may pass when its cause is tried again, and whether it ends the process."""

from es_django.core.errors import EsDjangoError

_RETRYABLE_SQLSTATE_CLASSES = ("08", "53")
_RETRYABLE_SQLSTATES = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03"})
_SQLITE_BUSY, _SQLITE_LOCKED = 5, 6
_TRANSIENT = (
    *("OperationalError", "InterfaceError"),  # PEP 249, and kombu
    *("ConnectionError", "TimeoutError", "gaierror", "URLError"),  # Python, redis, requests
    *("RecoverableConnectionError", "RecoverableChannelError"),  # amqp
    *("Timeout", "TransportError"),  # requests, httpx
    "SoftTimeLimitExceeded",  # celery
)
"""Names under which Python and its client libraries raise what is nobody's fault and may pass."""


def is_retryable(error: BaseException) -> bool:
    """Whether trying again can help, for any exception: this package's, Django's, a driver's or a broker client's.

    A database error is judged by its SQLSTATE or SQLite code, never by its text. Of everything else, lost or refused
    connections and time-outs are retryable, told by the names that they have in Python and in the clients of databases,
    brokers and HTTP.
    """
    if isinstance(error, EsDjangoError):
        return error.retryable
    driver_error = error.__cause__ if _is_a(error, "Error") and error.__cause__ is not None else error
    sqlstate: str | None = getattr(driver_error, "sqlstate", None)
    if sqlstate is not None:
        return sqlstate in _RETRYABLE_SQLSTATES or sqlstate.startswith(_RETRYABLE_SQLSTATE_CLASSES)
    sqlite_code: int | None = getattr(driver_error, "sqlite_errorcode", None)
    if sqlite_code is not None:
        return sqlite_code & 0xFF in (_SQLITE_BUSY, _SQLITE_LOCKED)
    return _is_a(driver_error, *_TRANSIENT)


def _is_a(error: BaseException, *names: str) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)


def ends_process(error: BaseException) -> bool:
    # Celery has its own kinds of SystemExit, and its pool processes end on a signal with the code -(256 - signal). What
    # is left is code that calls sys.exit(): it would come back again and again if it took its worker along.
    if isinstance(error, SystemExit):
        return type(error) is not SystemExit or (isinstance(error.code, int) and -256 < error.code <= -192)
    return isinstance(error, KeyboardInterrupt)
