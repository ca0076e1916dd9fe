"""Runs asynchronous projections: one transaction a batch, which holds the effects together with the checkpoint.

A crash anywhere repeats nothing and loses nothing. Whoever locks the checkpoint runs the projection; others step aside.
"""

import logging
import time
from datetime import timedelta

from django.db import models, transaction
from django.db.models.functions import Now

from es_django import conf
from es_django.errors import EsDjangoError, is_retryable
from es_django.models import ProjectionCheckpoint
from es_django.payloads import storable_text
from es_django.projections.base import Projection, registered_projections
from es_django.store import store_for
from es_django.store.failures import refuse_swallowed_failure, storage_errors

logger = logging.getLogger("es_django.projections")

Status = ProjectionCheckpoint.Status


class _ApplyFailed(Exception):
    def __init__(self, position: int, error: Exception) -> None:
        super().__init__(position)
        self.position = position
        self.error = error


def asynchronous_projections() -> dict[str, Projection]:
    """The projections that run from a checkpoint, by name."""
    return {name: each for name, each in registered_projections().items() if each.mode == "async"}


def run_projections(*, seconds: float = 20.0) -> int:
    """Brings every asynchronous projection up to the end of the log, within about `seconds`, and returns how many
    events were applied. One that fails does not stop the others."""
    deadline = time.monotonic() + seconds
    total = 0
    for name in asynchronous_projections():
        try:
            total += run_projection(name, seconds=deadline - time.monotonic())
        except EsDjangoError:
            logger.exception("projection %s could not be run", name)
    return total


def run_projection(name: str, *, seconds: float = 20.0) -> int:
    """Brings one asynchronous projection up to the end of the log, and returns how many events were applied.

    An event that fails is tried again later, after growing pauses; after PROJECTIONS["MAX_ATTEMPTS"] the projection is
    `failed` at that event until an operator decides, unless the error `is_retryable`. Raises `KeyError` for an unknown
    name, and `StorageError` if not even the failure can be noted.
    """
    projection = asynchronous_projections()[name]
    checkpoints = ProjectionCheckpoint.objects.using(conf.settings().database)
    checkpoints.get_or_create(name=name)
    deadline = time.monotonic() + seconds
    total = 0
    while time.monotonic() < deadline:
        try:
            applied = _run_batch(projection)
        except _ApplyFailed as failure:
            total += _run_batch(projection, before=failure.position) or 0
            _note_failure(name, failure.position, failure.error)
            break
        except Exception as error:
            _note_failure(name, None, error)
            break
        if applied is None:
            break
        total += applied
    return total


def _run_batch(projection: Projection, *, before: int | None = None) -> int | None:
    """Applies the next events, those `before` a position only, and returns how many; None if there is nothing to do
    now, or not for this runner."""
    settings = conf.settings()
    with storage_errors("run a projection"), transaction.atomic(using=settings.database, durable=True):
        due = ProjectionCheckpoint.objects.using(settings.database).filter(
            models.Q(retry_at=None) | models.Q(retry_at__lte=Now()),
            name=projection.name,
            status=Status.RUNNING,
        )
        checkpoint = due.select_for_update(skip_locked=True).first()
        if checkpoint is None:
            return None
        page = store_for().read_all(
            after=checkpoint.position, limit=settings.projections.batch_size, types=projection.event_classes
        )
        if page.position == checkpoint.position:
            return None
        events, position = page.events, page.position
        if before is not None:
            events = [recorded for recorded in events if recorded.position < before]
            position = events[-1].position if events else checkpoint.position
        for recorded in events:
            try:
                projection.apply([recorded])
                refuse_swallowed_failure(settings.database, f"run projection {projection.name}")
            except Exception as error:
                raise _ApplyFailed(recorded.position, error) from error
        checkpoint.position = position
        if checkpoint.attempts and position >= (checkpoint.failed_position or 0):
            checkpoint.failed_position, checkpoint.attempts, checkpoint.last_error = None, 0, ""
        checkpoint.retry_at = None
        checkpoint.updated_at = Now()
        checkpoint.save(using=settings.database)
        return len(events)


def _note_failure(name: str, position: int | None, error: BaseException) -> None:
    """Written in a transaction of its own, since that of the batch is gone."""
    settings = conf.settings()
    with (
        storage_errors("note a projection's failure"),
        transaction.atomic(using=settings.database, durable=True),
    ):
        checkpoint = ProjectionCheckpoint.objects.using(settings.database).select_for_update().get(name=name)
        checkpoint.attempts = checkpoint.attempts + 1 if checkpoint.failed_position == position else 1
        checkpoint.failed_position = position
        checkpoint.last_error = storable_text(error)
        pause = timedelta(seconds=settings.outbox.backoff.after(checkpoint.attempts))
        checkpoint.retry_at = Now() + pause
        if checkpoint.attempts >= settings.projections.max_attempts and not is_retryable(error):
            checkpoint.status = Status.FAILED
        checkpoint.updated_at = Now()
        checkpoint.save(using=settings.database)
    logger.error("projection %s failed at position %s: %r", name, position, error)
