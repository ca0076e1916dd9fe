"""What sends messages to a destination: the port, and how a destination's publisher is found."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from es_django import conf
from es_django.messages.message import Message
from es_django.outbox.errors import PublishError, UnknownDestination

_EXTRAS = {"httpx": "webhooks", "standardwebhooks": "webhooks", "nats": "nats", "redis": "redis"}
"""Which extra of this package brings what a publisher imports."""


class Publisher(ABC):
    """Sends messages to one destination; made once per process, with the destination's OPTIONS, for all its threads."""

    @abstractmethod
    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        """Sends the messages in their order and returns an outcome for each: None for one that has certainly arrived,
        or a `PublishError` that says whether trying again can help.

        No two of them share a key. An exception counts as a retryable failure of all of them.
        `DestinationUnreachable`, as an outcome or raised, is for a destination that takes nothing from anybody, as when
        a connection is refused: if it is the outcome of all of them, it is no attempt of theirs, and the destination
        rests for a while; else it is as any other failure.
        """


@cache
def publisher_for(destination: str) -> Publisher:
    """The publisher of a destination. Raises `UnknownDestination`, or `ImproperlyConfigured` if it cannot be made."""
    destinations = conf.settings().destinations
    if destination not in destinations:
        raise UnknownDestination(destination, sorted(destinations))
    configured = destinations[destination]
    try:
        publisher = import_string(configured.publisher)(**configured.options)
    except Exception as error:
        raise ImproperlyConfigured(f'ES_DJANGO["DESTINATIONS"]["{destination}"]: {_reason(error)}') from error
    if not isinstance(publisher, Publisher):
        raise ImproperlyConfigured(
            f'ES_DJANGO["DESTINATIONS"]["{destination}"]: {configured.publisher} is no Publisher'
        )
    return publisher


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package in _EXTRAS:
            return f'{package} is not installed; install it with: pip install "es-django[{_EXTRAS[package]}]"'
    return str(error) if isinstance(error, ImproperlyConfigured) else repr(error)


def _forget(setting: str, **kwargs: object) -> None:
    if setting == "ES_DJANGO":
        publisher_for.cache_clear()


setting_changed.connect(_forget)
