"""System checks of the project's Celery app: each setting that would lose a message or stop a sweep has an id."""

from collections.abc import Iterator
from typing import Any

from celery import Celery
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured

from es_django import conf
from es_django.celery_app import NoCeleryApp, project_app
from es_django.inbox.retry_policy import registered_errors
from es_django.outbox.publishers import publisher_for
from es_django.outbox.publishers.celery import HANDLER_TASK, CeleryPublisher
from es_django.projections.base import registered_projections

JSON = frozenset({"json", "application/json"})


@register("es_django")
def check_celery(**kwargs: Any) -> list[CheckMessage]:
    try:
        settings = conf.settings()
    except ImproperlyConfigured:
        return []
    found = [*_check_retry_on()]
    publishers = list(_celery_publishers(settings))
    try:
        app = project_app()
    except NoCeleryApp as error:
        return [*found, *_check_absent_app(str(error), settings, publishers)]
    return [*found, *_check_broker(app), *_check_content(app), *_check_tasks(app), *_check_queues(app, publishers)]


def _celery_publishers(settings: conf.Settings) -> Iterator[tuple[str, CeleryPublisher]]:
    for name in settings.destinations:
        try:
            publisher = publisher_for(name)
        except ImproperlyConfigured:
            continue  # E005 says so
        if isinstance(publisher, CeleryPublisher):
            yield name, publisher


def _check_retry_on() -> Iterator[CheckMessage]:
    try:
        registered_errors()
    except ImproperlyConfigured as error:
        yield Error(f"{error}.", hint="Name exception classes by their import paths.", id="es_django.E050")


def _check_absent_app(
    reason: str, settings: conf.Settings, publishers: list[tuple[str, CeleryPublisher]]
) -> Iterator[CheckMessage]:
    for name, _ in publishers:
        yield Error(
            f"The destination {name!r} sends Celery tasks, but {reason}.",
            hint="See First steps with Django in Celery's documentation. Until then, nothing is published to it.",
            id="es_django.E051",
        )
    if publishers:
        return
    if settings.destinations or any(not each.is_inline() for each in registered_projections().values()):
        yield Warning(
            f"No worker can be woken, because {reason}.",
            hint="Without Celery, run manage.py es_relay and manage.py es_project, and silence this warning.",
            id="es_django.W052",
        )


def _check_broker(app: Celery) -> Iterator[CheckMessage]:
    if not (app.conf.broker_url or app.conf.broker_write_url):
        yield Warning(
            f"The Celery app {app.main!r} has no broker_url, so tasks go to amqp://guest@localhost//.",
            hint="Set CELERY_BROKER_URL. Is the namespace of config_from_object the prefix of your settings?",
            id="es_django.W053",
        )


def _check_content(app: Celery) -> Iterator[CheckMessage]:
    if not JSON & set(app.conf.accept_content or ()):
        yield Error(
            f"Workers accept {', '.join(app.conf.accept_content or ())}, but es_django sends its tasks as JSON, and "
            "workers would drop each of them.",
            hint='Add "json" to CELERY_ACCEPT_CONTENT.',
            id="es_django.E054",
        )


def _check_tasks(app: Celery) -> Iterator[CheckMessage]:
    from es_django import tasks

    for name in (*tasks.SWEEPS, HANDLER_TASK):
        task: Any = app.tasks[name]
        if task.soft_time_limit and task.time_limit and task.soft_time_limit > task.time_limit:
            yield Error(
                f"Celery refuses to send {name}: its soft time limit of {task.soft_time_limit} s is above its hard "
                f"time limit of {task.time_limit} s.",
                hint="Correct CELERY_TASK_SOFT_TIME_LIMIT, CELERY_TASK_TIME_LIMIT or CELERY_TASK_ANNOTATIONS.",
                id="es_django.E055",
            )
        try:
            app.amqp.router.route({}, name)
        except Exception as error:
            yield Error(
                f"Celery cannot route {name}: {error}.",
                hint="Correct CELERY_TASK_ROUTES, CELERY_TASK_DEFAULT_QUEUE or CELERY_TASK_QUEUES.",
                id="es_django.E056",
            )
    handler: Any = app.tasks[HANDLER_TASK]
    changed = sorted(name for name, value in tasks.DELIVERY.items() if getattr(handler, name) != value)
    if changed:
        yield Error(
            f"CELERY_TASK_ANNOTATIONS changes {', '.join(changed)} of {HANDLER_TASK}, so a message could be lost with "
            "its worker.",
            hint=f"Leave {HANDLER_TASK} out of the annotations.",
            id="es_django.E057",
        )


def _check_queues(app: Celery, publishers: list[tuple[str, CeleryPublisher]]) -> Iterator[CheckMessage]:
    for name, publisher in publishers:
        if publisher.queue is None:
            continue
        try:
            app.amqp.router.route({"queue": publisher.queue}, publisher.task)
        except Exception as error:
            yield Error(
                f"The destination {name!r} sends to a queue that Celery cannot find: {error}.",
                hint="Add the queue to CELERY_TASK_QUEUES, or correct the option queue.",
                id="es_django.E058",
            )
