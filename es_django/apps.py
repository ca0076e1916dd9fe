from contextlib import suppress
from typing import Any, TextIO

from django.apps import AppConfig
from django.core.management.base import OutputWrapper
from django.db import connections
from django.db.models.signals import post_migrate, pre_migrate
from django.utils.module_loading import autodiscover_modules


class EsDjangoConfig(AppConfig):
    name = "es_django"
    verbose_name: str = "Event store"
    default_auto_field: str = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Importing the modules of the next line registers signals and checks.
        from es_django import celery_checks, celery_metadata, checks, database_checks, environment_checks  # noqa: F401
        from es_django.celery_app import NoCeleryApp, project_app
        from es_django.monitoring import extras

        extras.connect()
        # Celery keeps the current app for each thread. Without this call, a thread that serves requests would use
        # Celery's default app, and send tasks to the wrong broker.
        with suppress(NoCeleryApp):
            project_app().set_default()
        autodiscover_modules("events", "aggregates", "projections", "outbox", "handlers")
        pre_migrate.connect(remember_drawn_numbers, sender=self)
        post_migrate.connect(restore_after_migration, sender=self)
        post_migrate.connect(record_inline_projections, sender=self)


_drawn: dict[str, dict[str, int]] = {}
"""The highest numbers that each SQLite database had drawn before the migration that runs."""


def remember_drawn_numbers(using: str, **kwargs: Any) -> None:
    from es_django.store.sqlite.drawn import drawn_numbers

    if connections[using].vendor == "sqlite":
        _drawn[using] = drawn_numbers(connections[using])


def restore_after_migration(
    using: str, verbosity: int = 1, stdout: TextIO | OutputWrapper | None = None, **kwargs: Any
) -> None:
    """Restore what a migration of any app may have removed: the trigger that keeps events unchanged, drawn numbers."""
    from es_django.store.append_only import restore_trigger
    from es_django.store.sqlite.drawn import restore_drawn_numbers

    if before := _drawn.pop(using, None):
        restore_drawn_numbers(connections[using], before)
    if restore_trigger(connections[using]) and verbosity >= 1 and stdout is not None:
        stdout.write("the trigger that keeps events unchanged was missing or changed, and is restored\n")


def record_inline_projections(
    using: str, verbosity: int = 1, stdout: TextIO | OutputWrapper | None = None, **kwargs: Any
) -> None:
    """Store a checkpoint for each inline projection, and print which new projections need a rebuild.

    If the mode of a projection changes to async later, its checkpoint shows that the projection was inline before.
    """
    from es_django import conf
    from es_django.models import ProjectionCheckpoint
    from es_django.projections.checkpoints import ensure_inline_checkpoints, newest_position

    if using != conf.settings().database:
        return
    if ProjectionCheckpoint._meta.db_table in connections[using].introspection.table_names():
        added = ensure_inline_checkpoints()
        if verbosity >= 1 and stdout is not None and newest_position():
            for name in added:
                stdout.write(
                    f"projection {name} is new and has not applied the older events: run manage.py es_rebuild {name}\n"
                )
