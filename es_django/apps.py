from importlib import import_module
from importlib.util import find_spec

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class EsDjangoConfig(AppConfig):
    name = "es_django"
    verbose_name = "Event store"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from celery import current_app

        from es_django import checks, propagation  # noqa: F401  # each connects itself

        for library, module in (("prometheus_client", "metrics"), ("opentelemetry", "tracing")):
            if find_spec(library):
                import_module(f"es_django.{module}")
        # Celery knows its app by thread: without this a thread that serves requests would send to no broker of yours.
        current_app.set_default()
        autodiscover_modules("events", "aggregates", "projections", "outbox", "handlers")
