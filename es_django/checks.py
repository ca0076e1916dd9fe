"""System checks: each misconfiguration that would lose, misread or block data has an id and a hint.

A fatal misconfiguration also raises an error at its first use, because a Celery worker starts even if checks fail.
"""

from collections.abc import Collection, Iterator
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, router
from django.db.models import Model
from django.urls import NoReverseMatch, reverse

from es_django import conf
from es_django.core.aggregates import categories
from es_django.core.registry import registry
from es_django.models import CheckpointStatus, OutboxMessage, ProjectionCheckpoint
from es_django.outbox.publishers import publisher_for
from es_django.outbox.sending import publications
from es_django.outbox.states import OPEN
from es_django.projections.base import registered_projections
from es_django.projections.emptying import blocking_foreign_keys


@register("es_django")
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    try:
        settings = conf.settings()
    except ImproperlyConfigured as error:
        return [
            Error(
                str(error), hint="Correct the entry. The README of es_django lists the settings.", id="es_django.E001"
            )
        ]
    return [
        *_check_database(settings.database),
        *_check_destinations(settings),
        *_check_ingress(settings),
        *_check_databases_of_models(settings.database),
        *_check_atomic_requests(settings.database),
    ]


def _check_atomic_requests(alias: str) -> Iterator[CheckMessage]:
    if connections.settings.get(alias, {}).get("ATOMIC_REQUESTS"):
        yield Warning(
            f"ATOMIC_REQUESTS is True for the database {alias!r}, so Repository.execute does not retry inside views: a "
            "conflict fails the request.",
            hint="Mark the views that call execute with @transaction.non_atomic_requests, or set ATOMIC_REQUESTS to "
            "False. To keep the setting, retry the conflict outside the view, and silence this check with "
            "SILENCED_SYSTEM_CHECKS.",
            id="es_django.W060",
        )


@register("es_django")
def check_projections(**kwargs: Any) -> list[CheckMessage]:
    return [*_check_owned_models(), *_check_foreign_keys()]


@register("es_django")
def check_events(**kwargs: Any) -> list[CheckMessage]:
    return [*_check_names(), *_check_upcasters(), *_check_sensitive(), *_check_categories()]


def _check_database(alias: str) -> Iterator[CheckMessage]:
    if alias not in connections.settings:
        yield Error(
            f'ES_DJANGO["DATABASE"] is {alias!r}, but DATABASES has no such alias.',
            hint='Set ES_DJANGO["DATABASE"] to an alias of DATABASES, or add the database to DATABASES.',
            id="es_django.E002",
        )
        return
    if not django_settings.USE_TZ:
        yield Error(
            "USE_TZ is False, so the times of events and messages would be read in the wrong time zone.",
            hint="Set USE_TZ = True.",
            id="es_django.E009",
        )
    connection = connections[alias]
    if connection.vendor not in ("postgresql", "sqlite"):
        yield Error(
            f"es_django stores events in PostgreSQL or SQLite, but the database {alias!r} is {connection.vendor}.",
            hint='Set ES_DJANGO["DATABASE"] to the alias of a PostgreSQL or SQLite database.',
            id="es_django.E003",
        )
    if connection.vendor == "sqlite" and connection.settings_dict["OPTIONS"].get("transaction_mode") != "IMMEDIATE":
        yield Error(
            f"The SQLite database {alias!r} does not begin transactions as IMMEDIATE: concurrent writers would fail.",
            hint='Set "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20, '
            '"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"}.',
            id="es_django.E004",
        )


def _check_destinations(settings: conf.Settings) -> Iterator[CheckMessage]:
    for name in settings.destinations:
        try:
            publisher_for(name)
        except ImproperlyConfigured as error:
            yield Error(
                str(error),
                hint="Set PUBLISHER to the import path of a Publisher class, and OPTIONS to its arguments.",
                id="es_django.E005",
            )
    for event_class, destination, function in publications:
        if destination not in settings.destinations:
            yield Error(
                f"{function.__module__}.{function.__qualname__} publishes {event_class.__name__} to {destination!r}, "
                'but ES_DJANGO["DESTINATIONS"] has no such destination.',
                hint="Configure the destination, or correct its name.",
                id="es_django.E006",
            )


def _check_ingress(settings: conf.Settings) -> Iterator[CheckMessage]:
    from es_django.messages.signatures import ingress_signer

    for index, secret in enumerate(settings.ingress.secrets):
        try:
            ingress_signer(index, secret)
        except ImproperlyConfigured as error:
            yield Error(
                f"{error}.",
                hint="Generate a secret, or remove the entry. Without any secret, the ingress refuses all requests.",
                id="es_django.E012",
            )
    if not settings.ingress.secrets and _is_routed():
        yield Warning(
            'The URLs of es_django are routed, but ES_DJANGO["INGRESS"]["SECRETS"] is empty: all requests are refused.',
            hint="Add the secret that the sender signs with.",
            id="es_django.W013",
        )


def _is_routed() -> bool:
    if not getattr(django_settings, "ROOT_URLCONF", None):
        return False
    try:
        reverse("es_django:ingress")
    except NoReverseMatch:
        return False
    return True


@register(Tags.database)
def check_modes(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    try:
        database = conf.settings().database
    except ImproperlyConfigured:
        return []
    if database not in (databases or ()):
        return []
    asynchronous = [name for name, each in registered_projections().items() if not each.is_inline()]
    inline = ProjectionCheckpoint.objects.using(database).filter(name__in=asynchronous, status=CheckpointStatus.INLINE)
    try:
        names = sorted(inline.values_list("name", flat=True))
    except DatabaseError:
        return []  # before the first migration
    return [
        Error(
            f"Projection {name} changed from inline to async without a rebuild: new events would be missing in it.",
            hint=f"Set Meta.mode back to inline, migrate, pause it (manage.py es_project --pause {name}), change the "
            f"mode again, and rebuild it (manage.py es_rebuild {name}).",
            id="es_django.E022",
        )
        for name in names
    ]


@register(Tags.database)
def check_open_messages(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    try:
        settings = conf.settings()
    except ImproperlyConfigured:
        return []
    if settings.database not in (databases or ()):
        return []
    stranded = OutboxMessage.objects.using(settings.database).filter(status__in=OPEN)
    try:
        message = stranded.exclude(destination__in=settings.destinations).first()
    except DatabaseError:
        return []  # before the first migration
    if message is None:
        return []
    return [
        Warning(
            f'Messages wait for {message.destination!r}, but ES_DJANGO["DESTINATIONS"] has no such destination.',
            hint="Configure the destination again, or discard its messages: "
            f"manage.py es_outbox discard --destination {message.destination}",
            id="es_django.W001",
        )
    ]


def _check_names() -> Iterator[CheckMessage]:
    for name, paths in registry.conflicts().items():
        yield Error(
            f"The events {' and '.join(paths)} have the same name {name!r}, so they can be neither stored nor read.",
            hint="Change Meta.name of one of them.",
            id="es_django.E007",
        )


def _check_categories() -> Iterator[CheckMessage]:
    for category, paths in categories.conflicts().items():
        yield Error(
            f"The aggregates {' and '.join(paths)} have the same category {category!r}, so each would read the other's "
            "events.",
            hint="Change Meta.category of one of them.",
            id="es_django.E010",
        )


def _check_upcasters() -> Iterator[CheckMessage]:
    for event_type in registry.types():
        for version in event_type.missing_upcasters:
            yield Error(
                f"{event_type.path} has schema version {event_type.version}, but no upcaster from version {version}: "
                "stored events of that version cannot be read.",
                hint=f"Add a function with @upcasts({event_type.cls.__name__}, from_version={version}).",
                id="es_django.E008",
            )


def _check_sensitive() -> Iterator[CheckMessage]:
    for event_type in registry.types():
        if unknown := event_type.unknown_sensitive:
            yield Error(
                f"{event_type.path}.Meta.sensitive names {', '.join(unknown)}, but the event has no such field: "
                "nothing would be masked.",
                hint="Correct the name. Fields of older schema versions are allowed once Meta.version is above 1.",
                id="es_django.E030",
            )


def _check_owned_models() -> Iterator[CheckMessage]:
    owners: dict[type[Model], list[str]] = {}
    for projection in registered_projections().values():
        for model in projection.models:
            owners.setdefault(model, []).append(projection.name)
    for model, names in owners.items():
        if len(names) > 1:
            yield Error(
                f"{model._meta.label} is in Meta.models of several projections: {', '.join(names)}. A rebuild of "
                "one would delete the rows of the others.",
                hint="Use separate models for each projection.",
                id="es_django.E020",
            )


def _check_foreign_keys() -> Iterator[CheckMessage]:
    for projection in registered_projections().values():
        for field in blocking_foreign_keys(projection.models):
            yield Error(
                f"{field} ties a model of projection {projection.name} to rows of a model that is not in its "
                "Meta.models. A rebuild would change or need these rows, so it is refused.",
                hint="Set db_constraint=False, or use a plain field. If only the projection writes the other model, "
                "add it to Meta.models.",
                id="es_django.E023",
            )


def _check_databases_of_models(database: str) -> Iterator[CheckMessage]:
    if database not in connections.settings:
        return
    for projection in registered_projections().values():
        for model in projection.models:
            if router.db_for_write(model) != database:
                yield Error(
                    f"Projection {projection.name} writes {model._meta.label} to the database "
                    f"{router.db_for_write(model)!r}, but the events are in {database!r}, so they cannot commit "
                    "together.",
                    hint=f"Route the model to the database {database!r}.",
                    id="es_django.E021",
                )
