"""Decide whether an exception is retryable, and whether it ends the process."""

from es_django.core.client_errors import client_error_is_retryable
from es_django.core.database_errors import decision_on
from es_django.core.errors import EsDjangoError

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
    - A database error is judged by its SQLSTATE or SQLite error code, as `database_errors` lists.
    - An error of a common HTTP, mail or cloud client is judged by its class and by the status of its response.
    - Any other error is judged by the names of its class and base classes. Lost connections, refused connections and
      timeouts are retryable.
    """
    if isinstance(error, EsDjangoError):
        return error.retryable
    driver_error = error.__cause__ if _is_a(error, "Error") and error.__cause__ is not None else error
    if (decision := decision_on(driver_error)) is not None:
        return decision.retryable
    known = client_error_is_retryable(driver_error)
    return _is_a(driver_error, *_RETRYABLE_NAMES) if known is None else known


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
