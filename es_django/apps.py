from importlib import import_module
from importlib.util import find_spec
from typing import Any, TextIO

from django.apps import AppConfig
from django.core.management.base import OutputWrapper
from django.db import connections
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules


class EsDjangoConfig(AppConfig):
    name = "es_django"
    verbose_name: str = "Event store"
    default_auto_field: str = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from celery import current_app

        from es_django import celery_metadata, checks  # noqa: F401  # each connects itself

        for library, module in (("prometheus_client", "monitoring.metrics"), ("opentelemetry", "monitoring.tracing")):
            if find_spec(library):
                import_module(f"es_django.{module}")
        # Celery knows its app by thread: without this a thread that serves requests would send to no broker of yours.
        current_app.set_default()
        autodiscover_modules("events", "aggregates", "projections", "outbox", "handlers")
        post_migrate.connect(note_inline_projections, sender=self)


def note_inline_projections(
    using: str, verbosity: int = 1, stdout: TextIO | OutputWrapper | None = None, **kwargs: Any
) -> None:
    """Makes the checkpoints by which a projection that is asynchronous one day is known to have been inline, and tells
    of those that are new and lack what was appended before."""
    from es_django import conf
    from es_django.models import ProjectionCheckpoint
    from es_django.projections.checkpoints import ensure_inline_checkpoints, newest_position

    if using != conf.settings().database:
        return
    if ProjectionCheckpoint._meta.db_table in connections[using].introspection.table_names():
        added = ensure_inline_checkpoints()
        if verbosity >= 1 and stdout is not None and newest_position():
            for name in added:
                told = f"manage.py es_rebuild {name} builds its read model"
                stdout.write(f"projection {name} is new, and the log has events already: {told}\n")
