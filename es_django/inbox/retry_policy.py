"""Decide whether and when a message is handled again after its handler has failed."""

import random
from functools import lru_cache

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from es_django import conf
from es_django.core.client_errors import retry_after
from es_django.core.retryability import is_retryable
from es_django.inbox.errors import LONGEST_PAUSE, HandlerRejected, HandlerRetry
from es_django.inbox.handlers import Handler


def can_retry(error: BaseException, handler: Handler) -> bool:
    """Return whether a retry of the handler can succeed after this error.

    A retry can succeed after `HandlerRetry`, after the classes in the handler's `retry_on` and in the setting RETRY_ON,
    and after every error that `is_retryable`.
    """
    if isinstance(error, HandlerRejected):
        return False
    wanted = (*handler.retry_on, *registered_errors())
    # A database error is the context or the cause of its StorageError.
    found = (error, error.__cause__, error.__context__)
    return any(isinstance(each, wanted) for each in found) or is_retryable(error)


def seconds_until_retry(error: BaseException | None, handler: Handler | None, attempt: int) -> float | None:
    """Return the seconds until the next attempt, or None if this attempt was the last one or a retry cannot succeed.

    The error is None if the handler's process was lost. The handler is None if no handler takes the message.
    """
    limits = conf.settings().inbox
    attempts = limits.max_attempts if handler is None or handler.attempts is None else handler.attempts
    if attempt >= attempts or (error is not None and handler is not None and not can_retry(error, handler)):
        return None
    if isinstance(error, HandlerRetry) and error.seconds is not None:
        return error.seconds
    backoff = limits.backoff if handler is None or handler.backoff is None else handler.backoff
    longest = backoff.after(attempt)
    pause = random.uniform(longest / 2, longest)  # noqa: S311  # many messages that failed together do not come together
    asked = None if error is None else retry_after(error)
    return pause if asked is None else min(max(pause, asked), LONGEST_PAUSE)


@lru_cache(maxsize=1)
def registered_errors() -> tuple[type[BaseException], ...]:
    """Return the exception classes of ES_DJANGO["INBOX"]["RETRY_ON"].

    Raise `ImproperlyConfigured` if an entry is not the import path of an exception class.
    """
    found = []
    for path in conf.settings().inbox.retry_on:
        try:
            kind = import_string(path)
        except ImportError as error:
            raise ImproperlyConfigured(f'ES_DJANGO["INBOX"]["RETRY_ON"]: {error}') from error
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise ImproperlyConfigured(f'ES_DJANGO["INBOX"]["RETRY_ON"]: {path} is not an exception class')
        found.append(kind)
    return tuple(found)


def _clear_cache(setting: str, **kwargs: object) -> None:
    if setting == "ES_DJANGO":
        registered_errors.cache_clear()


setting_changed.connect(_clear_cache)
