"""System checks of what a project has besides es_django: optional libraries, its users and its logging."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from es_django import conf
from es_django.monitoring.extras import unusable


@register("es_django")
def check_libraries(**kwargs: Any) -> list[CheckMessage]:
    return [
        Warning(
            f"{library} is installed, but es_django cannot use it, so it reports nothing there: {error!r}.",
            hint="Update it, or install it with the extra of es-django that the README names.",
            id="es_django.W014",
        )
        for library, error in unusable.items()
    ]


@register("es_django")
def check_user(**kwargs: Any) -> list[CheckMessage]:
    try:
        path = conf.settings().metadata_user
        function = import_string(path)
    except ImproperlyConfigured:
        return []
    except ImportError as error:
        function, path = None, f"{path!r} ({error})"
    if callable(function):
        return []
    return [
        Error(
            f'ES_DJANGO["METADATA_USER"] must be the path of a function, not {path}.',
            hint="Set the import path of a function that takes a request and returns the user as a str, or None.",
            id="es_django.E016",
        )
    ]


@register("es_django")
def check_logging(**kwargs: Any) -> list[CheckMessage]:
    logging: Any = settings.LOGGING
    if not logging or not settings.LOGGING_CONFIG or not logging.get("disable_existing_loggers", True):
        return []
    if logging.get("incremental") or "es_django" in logging.get("loggers", {}):
        return []
    return [
        Warning(
            'LOGGING["disable_existing_loggers"] is not False, so applying LOGGING again, as many Celery workers do, '
            "disables the loggers of all apps. es_django enables its own again, but other packages fall silent.",
            hint='Set LOGGING["disable_existing_loggers"] = False, or name the logger "es_django" in '
            'LOGGING["loggers"].',
            id="es_django.W015",
        )
    ]
