"""What an operator may do to a projection: pause it, resume it, skip an event at which it fails.

Each is logged, with who did it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, transaction

from es_django import conf
from es_django.models import ProjectionCheckpoint, SkippedEvent
from es_django.models.projections import CheckpointStatus
from es_django.projections.base import Projection, projection_named
from es_django.projections.checkpoints import (
    checkpoints_of,
    ensure_checkpoints,
    require_actor,
    save,
)
from es_django.projections.errors import ProjectionStatusError
from es_django.projections.handover import pause_checkpoint
from es_django.projections.states import transition
from es_django.store.error_translation import storage_errors

logger: logging.Logger = logging.getLogger("es_django.projections")

STOPPED = (CheckpointStatus.PAUSED, CheckpointStatus.FAILED)


def pause(name: str, *, by: str) -> None:
    """Stops a projection, once the batch at hand has ended, until it is resumed. `by` tells who wants it.

    Appends go on without an inline projection that is paused; runners bring it up to them when it is resumed, and then
    the appends move it again. Meanwhile its mode may be changed.

    Raises `UnknownProjection`, `PartitionsChanged`, `ModeChanged`, `ProjectionStatusError` if it is paused or failed,
    and `StorageError`, retryable where appends to an inline projection are in flight for too long.
    """
    projection = projection_named(name)
    with _locked(projection, by) as checkpoints:
        running = [each for each in checkpoints if each.status not in STOPPED]
        if not running:
            raise _refusal(projection, "paused", checkpoints)
        for checkpoint in running:
            pause_checkpoint(checkpoint)
    logger.info("projection %s was paused by %s", name, by, extra={"projection": name, "by": by})


def resume(name: str, *, by: str) -> None:
    """Lets a projection that is paused or failed go on, at the event where it stands. `by` tells who wants it.

    Raises `UnknownProjection`, `PartitionsChanged`, `ModeChanged`, and `ProjectionStatusError` if it is neither.
    """
    projection = projection_named(name)
    with _locked(projection, by) as checkpoints:
        stopped = [each for each in checkpoints if each.status in STOPPED]
        if not stopped:
            raise _refusal(projection, "resumed", checkpoints)
        for checkpoint in stopped:
            transition(checkpoint, _status_after(checkpoint))
            checkpoint.attempts, checkpoint.retry_at = 0, None
            save(checkpoint)
    logger.info("projection %s was resumed by %s", name, by, extra={"projection": name, "by": by})


def skip(name: str, position: int, *, by: str) -> None:
    """Lets a projection go on without the event at `position`, at which it fails, and keeps a `SkippedEvent` of that.

    Raises `UnknownProjection`, `PartitionsChanged`, `ModeChanged`, and `ProjectionStatusError` if it does not fail at
    that position.
    """
    projection = projection_named(name)
    with _locked(projection, by) as checkpoints:
        failing = [each for each in checkpoints if each.failed_position == position]
        if not failing:
            raise ProjectionStatusError(name, f"made to skip position {position}", "it does not fail there")
        for checkpoint in failing:
            skipped = SkippedEvent(projection=name, position=position, error=checkpoint.last_error, skipped_by=by)
            skipped.save(using=conf.settings().database)
            checkpoint.position = position
            checkpoint.forget_failure()
            if checkpoint.status == CheckpointStatus.FAILED:
                transition(checkpoint, _status_after(checkpoint))
            save(checkpoint)
    ids = {"projection": name, "position": position, "by": by}
    logger.warning("projection %s was made to skip the event at position %s by %s", name, position, by, extra=ids)


@contextmanager
def _locked(projection: Projection, by: str) -> Iterator[list[ProjectionCheckpoint]]:
    require_actor(by)
    using = conf.settings().database
    with storage_errors("change a projection's status", connections[using]), transaction.atomic(using=using):
        ensure_checkpoints(projection)
        yield list(checkpoints_of(projection.name).select_for_update())


def _status_after(checkpoint: ProjectionCheckpoint) -> CheckpointStatus:
    """A rebuild goes on as one."""
    return CheckpointStatus.RUNNING if checkpoint.side_effects is None else CheckpointStatus.REBUILDING


def _refusal(projection: Projection, wanted: str, checkpoints: list[ProjectionCheckpoint]) -> ProjectionStatusError:
    statuses = " and ".join(sorted({each.status for each in checkpoints}))
    return ProjectionStatusError(projection.name, wanted, f"it is {statuses}")
