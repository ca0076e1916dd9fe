"""The setting ES_DJANGO. It is read and validated on first use, and again when a test overrides it."""

from functools import lru_cache
from typing import Annotated, Any

import msgspec
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.http import HttpRequest
from django.utils.module_loading import import_string

from es_django.core.streams import require_name

# These numbers are bounded, so that both databases can represent the times that are computed from them.
Seconds = Annotated[float, msgspec.Meta(gt=0, le=365 * 24 * 3600)]
Days = Annotated[float, msgspec.Meta(ge=0, le=36_500)]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class Backoff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The seconds before the next attempt.

    With a `schedule`, its first number is the pause after the first failure, and so on. Its last number repeats.
    Without a schedule, the pause is `base` after the first failure. Each further failure multiplies it by `factor`, up
    to `max`.
    """

    base: Seconds = 1.0
    factor: Annotated[float, msgspec.Meta(ge=1, le=1000)] = 2.0
    max: Seconds = 3600.0
    schedule: tuple[Seconds, ...] = ()

    def after(self, attempts: int) -> float:
        """Return the seconds to wait after this number of failed attempts, or the upper limit of a wait with jitter."""
        if self.schedule:
            return self.schedule[min(attempts, len(self.schedule)) - 1]
        return float(min(self.max, self.base * self.factor ** min(attempts - 1, 64)))


STANDARD_WEBHOOKS = Backoff(schedule=(5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400))
"""The pauses that Standard Webhooks recommends. Ten attempts take more than two days, even with all jitter."""


class Destination(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="upper"):
    publisher: str
    options: dict[str, Any] = {}
    batch_size: Count | None = None
    max_attempts: Count | None = None
    backoff: Backoff | None = None


class OutboxSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="upper"):
    batch_size: Count = 500
    lease: Seconds = 30.0
    max_attempts: Count = 10
    backoff: Backoff = STANDARD_WEBHOOKS
    retention_days: Days = 7.0
    max_bytes: Count = 2**20


class ProjectionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="upper"):
    batch_size: Count = 500
    max_attempts: Count = 5
    backoff: Backoff = Backoff()


class Secret(str):
    """A string that its `repr` does not show, so that tracebacks and logs do not show the string either."""

    def __repr__(self) -> str:
        return "Secret(...)"


class InboxSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="upper"):
    """Settings of the inbox.

    The inbox handles a message twice if its second delivery comes after `retention_days`. So `retention_days` must be
    longer than brokers and senders retry, and longer than operators take to requeue a dead outbox message.

    A handler that fails runs again after `backoff`, up to `max_attempts` times in all. The defaults span two days.
    `retry_on` has the import paths of exception classes that are retryable in every handler.
    """

    max_attempts: Count = 12
    backoff: Backoff = Backoff(factor=4.0, max=43_200.0)
    retry_on: tuple[str, ...] = ()

    retention_days: Annotated[float, msgspec.Meta(gt=0, le=36_500)] = 30.0


class IngressSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="upper"):
    """Settings of the ingress. A request is handled before it is answered, so `max_events` bounds its time."""

    secrets: tuple[Secret, ...] = ()
    max_bytes: Count = 1_048_576
    max_events: Count = 100
    strict: bool = True


PRIMARY_KEY_OF_USER = "es_django.middleware.primary_key_of_user"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="upper"):
    database: str = "default"
    prepared_statements: bool | None = None
    """None: prepare, except behind a pooler. True also prepares behind a pooler, which must then track the statements.
    """
    destinations: dict[str, Destination] = {}
    outbox: OutboxSettings = OutboxSettings()
    projections: ProjectionSettings = ProjectionSettings()
    inbox: InboxSettings = InboxSettings()
    ingress: IngressSettings = IngressSettings()

    metadata_user: str = PRIMARY_KEY_OF_USER
    """The import path of a function that takes a request and returns the user for the metadata, or None.

    The function must make no query, because an asynchronous view calls it in its event loop.
    """

    def user_of(self, request: HttpRequest) -> str | None:
        """Return the user of a request. Raise `ImproperlyConfigured` if the function cannot be imported."""
        try:
            function = import_string(self.metadata_user)
        except ImportError as error:
            raise ImproperlyConfigured(f'ES_DJANGO["METADATA_USER"]: {error}') from error
        user = function(request)
        return None if user is None else str(user)

    def outbox_of(self, destination: str) -> OutboxSettings:
        """Return the settings of the outbox for a destination, whose own settings come first."""
        own = self.destinations.get(destination)
        if own is None:
            return self.outbox
        policy = {"batch_size": own.batch_size, "max_attempts": own.max_attempts, "backoff": own.backoff}
        return msgspec.structs.replace(self.outbox, **{name: set for name, set in policy.items() if set is not None})


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the validated setting. If an entry is wrong, raise `ImproperlyConfigured`, which names the entry."""
    try:
        found = msgspec.convert(getattr(django_settings, "ES_DJANGO", {}), type=Settings, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ImproperlyConfigured(f"ES_DJANGO: {error}") from error
    for name in found.destinations:
        require_name('the name of a destination in ES_DJANGO["DESTINATIONS"]', name, ImproperlyConfigured)
    return found


def _decode(kind: type, value: object) -> object:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise TypeError(f"Expected `str`, got `{type(value).__name__}`")


def _clear_cache(setting: str, **kwargs: object) -> None:
    if setting == "ES_DJANGO":
        settings.cache_clear()


setting_changed.connect(_clear_cache)
