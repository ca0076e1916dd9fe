"""The port of publishers, and the lookup of a destination's publisher."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from es_django import conf
from es_django.messages.message import Message
from es_django.outbox.errors import PublishError, UnknownDestination

_EXTRA_OF_PACKAGE = {"httpcore": "webhooks", "standardwebhooks": "webhooks", "nats": "nats", "redis": "redis"}
"""For each optional package, the extra of es-django that installs it."""

Outcomes = dict[int, PublishError | None]
"""The known outcomes of a batch, by the index of the message: None if it was published, otherwise the error."""


class Publisher(ABC):
    """Publishes messages to one destination.

    Each process creates one publisher for each destination, with the destination's OPTIONS. All threads share it.
    """

    @abstractmethod
    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        """Publish the messages in their order, and return an outcome for each.

        Each message has another key, or none. If `publish` raises, the exception counts as a retryable error of every
        message.

        | outcome | |
        | --- | --- |
        | None | the message has certainly arrived |
        | `PublishError` | the message was not published; `retryable` says whether another attempt may succeed |
        | `DestinationUnreachable` | the destination accepts no message at all; for example, it refuses connections |

        If every outcome is `DestinationUnreachable`, or if `publish` raises `DestinationUnreachable`, no attempt is
        counted, and the relay pauses the destination. If some outcomes differ, `DestinationUnreachable` counts as an
        ordinary retryable error.
        """


@cache
def publisher_for(destination: str) -> Publisher:
    """Return the publisher of a destination.

    Raises:
        UnknownDestination: the settings do not have the destination.
        ImproperlyConfigured: the publisher cannot be created.
    """
    destinations = conf.settings().destinations
    if destination not in destinations:
        raise UnknownDestination(destination, sorted(destinations))
    configured = destinations[destination]
    setting = f'ES_DJANGO["DESTINATIONS"]["{destination}"]'
    try:
        publisher = import_string(configured.publisher)(**configured.options)
    except Exception as error:
        raise ImproperlyConfigured(f"{setting}: {_reason(error)}") from error
    if not isinstance(publisher, Publisher):
        raise ImproperlyConfigured(f"{setting}: {configured.publisher} is not a Publisher")
    return publisher


def _reason(error: Exception) -> str:
    if isinstance(error, ImportError):
        package = (error.name or "").partition(".")[0]
        if package in _EXTRA_OF_PACKAGE:
            extra = _EXTRA_OF_PACKAGE[package]
            return f'{package} cannot be used ({error}): install it with pip install -U "es-django[{extra}]"'
    return str(error) if isinstance(error, ImproperlyConfigured) else repr(error)


def _clear_cache(setting: str, **kwargs: object) -> None:
    if setting == "ES_DJANGO":
        publisher_for.cache_clear()


setting_changed.connect(_clear_cache)
