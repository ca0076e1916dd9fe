"""System checks: each misconfiguration that would lose, misread or block something has an id and a hint.

What is fatal also raises where it is used, since a Celery worker starts whatever its checks say.
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
from es_django.models import OutboxMessage, ProjectionCheckpoint
from es_django.models.projections import CheckpointStatus
from es_django.outbox.publishers import publisher_for
from es_django.outbox.sending import publications
from es_django.outbox.states import OPEN
from es_django.projections.base import registered_projections
from es_django.projections.foreign_keys import blocking_foreign_keys


@register("es_django")
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    try:
        settings = conf.settings()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="The README of es_django shows the settings.", id="es_django.E001")]
    return [
        *_check_database(settings.database),
        *_check_destinations(settings),
        *_check_ingress(settings),
        *_check_databases_of_models(settings.database),
    ]


@register("es_django")
def check_projections(**kwargs: Any) -> list[CheckMessage]:
    return [*_check_owned_models(), *_check_foreign_keys()]


@register("es_django")
def check_events(**kwargs: Any) -> list[CheckMessage]:
    return [*_check_names(), *_check_upcasters(), *_check_sensitive(), *_check_categories()]


def _check_database(alias: str) -> Iterator[CheckMessage]:
    if alias not in connections.settings:
        yield Error(
            f'ES_DJANGO["DATABASE"] is {alias!r}, which DATABASES does not have.',
            hint="Name an alias of DATABASES.",
            id="es_django.E002",
        )
        return
    if not django_settings.USE_TZ:
        yield Error(
            "USE_TZ is False; the times of events and messages would be read as another zone's.",
            hint="Set USE_TZ = True.",
            id="es_django.E009",
        )
    connection = connections[alias]
    if connection.vendor not in ("postgresql", "sqlite"):
        yield Error(
            f"es_django stores events in PostgreSQL or SQLite; {alias!r} is {connection.vendor}.",
            hint='Point ES_DJANGO["DATABASE"] to a database of one of the two.',
            id="es_django.E003",
        )
    if connection.vendor == "sqlite" and connection.settings_dict["OPTIONS"].get("transaction_mode") != "IMMEDIATE":
        yield Error(
            f"The SQLite database {alias!r} does not begin transactions as IMMEDIATE; concurrent writers would fail.",
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
                hint="PUBLISHER is the path of a Publisher class, OPTIONS are its arguments.",
                id="es_django.E005",
            )
    for event_class, destination, function in publications:
        if destination not in settings.destinations:
            yield Error(
                f"{function.__module__}.{function.__qualname__} publishes {event_class.__name__} to {destination!r}, "
                'which ES_DJANGO["DESTINATIONS"] does not have.',
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
                hint="Generate a secret, or remove the entry. Without any secret the ingress refuses all requests.",
                id="es_django.E012",
            )
    if not settings.ingress.secrets and _is_routed():
        yield Warning(
            'The URLs of es_django receive messages, but ES_DJANGO["INGRESS"]["SECRETS"] is empty: all are refused.',
            hint="Set the secret that the sender signs with.",
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
            f"Projection {name} was inline and is async now: it would miss what is appended from now on.",
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
            f'Messages to {message.destination!r} wait in the outbox, and ES_DJANGO["DESTINATIONS"] does not have it.',
            hint="Configure it again, or give its messages up: manage.py es_outbox discard --destination ...",
            id="es_django.W001",
        )
    ]


def _check_names() -> Iterator[CheckMessage]:
    for name, paths in registry.conflicts().items():
        yield Error(
            f"{' and '.join(paths)} are both stored as {name!r}.",
            hint="Give one of them another Meta.name.",
            id="es_django.E007",
        )


def _check_categories() -> Iterator[CheckMessage]:
    for category, paths in categories.conflicts().items():
        yield Error(
            f"{' and '.join(paths)} both have the category {category!r}; each would read the other's events.",
            hint="Give one of them another Meta.category.",
            id="es_django.E010",
        )


def _check_upcasters() -> Iterator[CheckMessage]:
    for event_type in registry.types():
        for version in event_type.missing_upcasters:
            yield Error(
                f"{event_type.path} is at schema version {event_type.version}, but nothing upcasts version {version}.",
                hint=f"Write a function with @upcasts({event_type.cls.__name__}, from_version={version}).",
                id="es_django.E008",
            )


def _check_sensitive() -> Iterator[CheckMessage]:
    for event_type in registry.types():
        if unknown := event_type.unknown_sensitive:
            yield Error(
                f"{event_type.path}.Meta.sensitive names {', '.join(unknown)}, which is no field of it; nothing would "
                "be masked.",
                hint="Name fields; those of older schema versions may stand there once Meta.version is more than 1.",
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
                f"{model._meta.label} is in Meta.models of the projections {', '.join(names)}; a rebuild of one would "
                "empty what the others wrote.",
                hint="Give each projection models of its own.",
                id="es_django.E020",
            )


def _check_foreign_keys() -> Iterator[CheckMessage]:
    for projection in registered_projections().values():
        for field in blocking_foreign_keys(projection.models):
            yield Error(
                f"{field} points into Meta.models of projection {projection.name}, which a rebuild empties: its rows "
                "would be deleted too, or forbid it.",
                hint="Set on_delete=DO_NOTHING and db_constraint=False, keep the value in a plain field, or add the "
                "model to Meta.models if the projection alone writes it.",
                id="es_django.E023",
            )


def _check_databases_of_models(database: str) -> Iterator[CheckMessage]:
    if database not in connections.settings:
        return
    for projection in registered_projections().values():
        for model in projection.models:
            if router.db_for_write(model) != database:
                yield Error(
                    f"{model._meta.label}, which projection {projection.name} writes, is in the database "
                    f"{router.db_for_write(model)!r}, and the events in {database!r}: they cannot commit together.",
                    hint="Route the model to the database of the events.",
                    id="es_django.E021",
                )
