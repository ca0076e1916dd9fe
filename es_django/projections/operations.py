"""Operations on a projection: pause, resume, and skip an event. Each writes a log record that names the operator."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, transaction

from es_django import conf
from es_django.core.logs import Log
from es_django.core.validation import require_operator
from es_django.models import CheckpointStatus, ProjectionCheckpoint, SkippedEvent
from es_django.projections.base import Projection, projection_named
from es_django.projections.checkpoints import checkpoints_of, ensure_checkpoints, save
from es_django.projections.errors import ProjectionStatusError
from es_django.projections.handover import pause_checkpoint
from es_django.projections.states import transition
from es_django.store.error_translation import storage_errors

logger: Log = Log("es_django.projections")

STOPPED = (CheckpointStatus.PAUSED, CheckpointStatus.FAILED)


def pause(name: str, *, by: str) -> None:
    """Pause a projection after its current batch, until `resume`. `by` is the name of the operator.

    While an inline projection is paused, appends leave it out, and its mode may be changed. After `resume`, a runner
    applies the events since the pause. Then the projection runs inline again.

    Raises:
        UnknownProjection: No projection has this name.
        PartitionsChanged, ModeChanged: `Meta` does not fit the stored checkpoints.
        ProjectionStatusError: The projection is already paused or failed.
        StorageError: The database failed, or appends that run inline projections did not end in time (retryable).
    """
    projection = projection_named(name)
    with _locked(projection, by) as checkpoints:
        running = [each for each in checkpoints if each.status not in STOPPED]
        if not running:
            raise _status_error(name, "paused", checkpoints)
        for checkpoint in running:
            pause_checkpoint(checkpoint)
    logger.info("projection %s was paused by %s", name, by, extra={"projection": name, "by": by})


def resume(name: str, *, by: str) -> None:
    """Resume a paused or failed projection at the event where it stopped. `by` is the name of the operator.

    Raises:
        UnknownProjection: No projection has this name.
        PartitionsChanged, ModeChanged: `Meta` does not fit the stored checkpoints.
        ProjectionStatusError: The projection is neither paused nor failed.
    """
    projection = projection_named(name)
    with _locked(projection, by) as checkpoints:
        stopped = [each for each in checkpoints if each.status in STOPPED]
        if not stopped:
            raise _status_error(name, "resumed", checkpoints)
        for checkpoint in stopped:
            transition(checkpoint, _status_after(checkpoint))
            checkpoint.attempts, checkpoint.retry_at = 0, None
            save(checkpoint)
    logger.info("projection %s was resumed by %s", name, by, extra={"projection": name, "by": by})


def skip(name: str, position: int, *, by: str) -> None:
    """Skip the event at which a projection fails, and record a `SkippedEvent`.

    `position` is the position of the event, `by` the name of the operator.

    Raises:
        UnknownProjection: No projection has this name.
        PartitionsChanged, ModeChanged: `Meta` does not fit the stored checkpoints.
        ProjectionStatusError: The projection does not fail at that position.
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
    require_operator(by)
    using = conf.settings().database
    with storage_errors("change a projection's status", connections[using]), transaction.atomic(using=using):
        ensure_checkpoints(projection)
        yield list(checkpoints_of(projection.name).select_for_update())


def _status_after(checkpoint: ProjectionCheckpoint) -> CheckpointStatus:
    """Return the status after a stop: `rebuilding` if the checkpoint stopped in a rebuild, and `running` if not."""
    return CheckpointStatus.RUNNING if checkpoint.side_effects is None else CheckpointStatus.REBUILDING


def _status_error(name: str, wanted: str, checkpoints: list[ProjectionCheckpoint]) -> ProjectionStatusError:
    statuses = " and ".join(sorted({each.status for each in checkpoints}))
    return ProjectionStatusError(name, wanted, f"it is {statuses}")
