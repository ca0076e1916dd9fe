"""Decide whether an exception is retryable, and whether it ends the process."""

from es_django.core.client_errors import client_error_is_retryable
from es_django.core.errors import EsDjangoError

_RETRYABLE_SQLSTATE_CLASSES = ("08", "53")
"""Connection errors and insufficient resources."""
_RETRYABLE_SQLSTATES = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03"})
"""Serialization failure, deadlock, lock not available, and three errors of a server that shuts down or starts up."""
_SQLITE_BUSY, _SQLITE_LOCKED = 5, 6
_RETRYABLE_NAMES = (
    *("OperationalError", "InterfaceError"),  # PEP 249, and kombu
    *("ConnectionError", "TimeoutError", "gaierror", "URLError"),  # Python, redis, requests
    *("RecoverableConnectionError", "RecoverableChannelError"),  # amqp
    *("Timeout", "TransportError"),  # requests, httpx
    "SoftTimeLimitExceeded",  # celery
)
"""The class names of transient errors in Python and client libraries. Matching by name avoids importing them."""


def is_retryable(error: BaseException) -> bool:
    """Return whether a retry can succeed after this exception.

    The exception may come from any code, such as this package, Django, a database driver or a broker client:

    - An error of this package is judged by its attribute `retryable`.
    - A database error is judged by its SQLSTATE or SQLite error code. Only `forbids_transactions` needs its text.
    - An error of a common HTTP, mail or cloud client is judged by its class and by the status of its response.
    - Any other error is judged by the names of its class and base classes. Lost connections, refused connections and
      timeouts are retryable.
    """
    if isinstance(error, EsDjangoError):
        return error.retryable
    driver_error = error.__cause__ if _is_a(error, "Error") and error.__cause__ is not None else error
    sqlstate: str | None = getattr(driver_error, "sqlstate", None)
    if sqlstate is not None:
        if forbids_transactions(driver_error):
            return False
        return sqlstate in _RETRYABLE_SQLSTATES or sqlstate.startswith(_RETRYABLE_SQLSTATE_CLASSES)
    sqlite_code: int | None = getattr(driver_error, "sqlite_errorcode", None)
    if sqlite_code is not None:
        return sqlite_code & 0xFF in (_SQLITE_BUSY, _SQLITE_LOCKED)
    known = client_error_is_retryable(driver_error)
    return _is_a(driver_error, *_RETRYABLE_NAMES) if known is None else known


def forbids_transactions(driver_error: BaseException | None) -> bool:
    """Return whether PgBouncer refused a transaction because its `pool_mode` is `statement`.

    PgBouncer gives all its errors the same SQLSTATE, so only the text shows that a retry cannot succeed.
    """
    return getattr(driver_error, "sqlstate", None) == "08P01" and "statement pooling mode" in str(driver_error)


def _is_a(error: BaseException, *names: str) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)


def ends_process(error: BaseException) -> bool:
    """Return whether the exception must end the process.

    A plain `sys.exit()` in a handler must not end the process, because the broker would deliver the message again, and
    the message would end one worker after another.
    """
    # Celery raises subclasses of SystemExit. Its pool processes exit on a signal with the code -(256 - signal).
    if isinstance(error, SystemExit):
        return type(error) is not SystemExit or (isinstance(error.code, int) and -256 < error.code <= -192)
    return isinstance(error, KeyboardInterrupt)
