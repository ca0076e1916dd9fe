from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class EsDjangoConfig(AppConfig):
    name = "es_django"
    verbose_name = "Event store"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from es_django import checks, propagation  # noqa: F401  # each connects itself

        autodiscover_modules("events", "aggregates", "projections", "outbox", "handlers")
