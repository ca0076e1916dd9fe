"""Pass metadata from the code that sends a Celery task to the worker that runs the task."""

from contextlib import AbstractContextManager
from typing import Any

from celery import signals

from es_django.core.metadata import current_metadata, metadata

HEADER = "es_django_metadata"

_running: dict[str, AbstractContextManager[None]] = {}
"""The metadata block of each task that is running, by task id."""


@signals.before_task_publish.connect(weak=False, dispatch_uid="es_django.metadata")
def attach(headers: dict[str, Any], **kwargs: Any) -> None:
    if current := current_metadata():
        headers.setdefault(HEADER, dict(current))


@signals.task_prerun.connect(weak=False, dispatch_uid="es_django.metadata")
def enter(task_id: str, task: Any, **kwargs: Any) -> None:
    carried = getattr(task.request, HEADER, None)
    if isinstance(carried, dict):
        block = metadata(**{str(name): str(value) for name, value in carried.items()})
        block.__enter__()
        _running[task_id] = block


@signals.task_postrun.connect(weak=False, dispatch_uid="es_django.metadata")
def leave(task_id: str, **kwargs: Any) -> None:
    if (block := _running.pop(task_id, None)) is not None:
        block.__exit__(None, None, None)
