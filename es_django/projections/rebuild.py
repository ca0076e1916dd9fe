"""Rebuild a read model from the log while appends go on.

A rebuild repeats no side effect (see `side_effects`). While an inline projection is rebuilt, appends leave it out. Each
event is still applied once (see `handover`).
"""

from django.db import connections

from es_django import conf
from es_django.core.logs import Log
from es_django.core.validation import require_operator
from es_django.models import CheckpointStatus, ProjectionCheckpoint
from es_django.projections.base import Projection, projection_named
from es_django.projections.checkpoints import ACTIVE, checkpoints_of, create_checkpoints, save
from es_django.projections.emptying import empty, obstacles
from es_django.projections.errors import ProjectionStatusError
from es_django.projections.handover import take_from_appends
from es_django.projections.side_effects import merged_side_effects
from es_django.projections.states import transition
from es_django.store.commit_tracking import tracked_atomic
from es_django.store.error_translation import storage_errors

logger: Log = Log("es_django.projections")


def start_rebuild(name: str, *, by: str) -> bool:
    """Empty a projection's models and set it back to the beginning of the log, in one transaction.

    Workers or `run_projection` then replay the log. `by` is the name of the operator. If a rebuild is
    already under way, do nothing and return False.

    For an inline projection, appends must run under READ COMMITTED, the default of PostgreSQL. If the start of the
    rebuild is interrupted, an inline projection stays paused: start the rebuild again, or resume.

    Raises:
        UnknownProjection: No projection has this name.
        ModeChanged: The projection ran inline and is asynchronous now.
        ProjectionStatusError: The projection has no `Meta.models`, or emptying them would reach rows of other models:
            through a foreign key that the database enforces, a parent model, or a trigger. Nothing was changed.
        StorageError: The database failed, or appends that run inline projections did not end in time (retryable).
    """
    projection = projection_named(name)
    require_operator(by)
    if not projection.models:
        raise ProjectionStatusError(name, "rebuilt", "it has no models to empty: list them in Meta.models")
    database = conf.settings().database
    with storage_errors("start a rebuild", connections[database]):
        if reasons := obstacles(projection.models, database):
            raise ProjectionStatusError(name, "rebuilt", "; ".join(reasons))
        take_from_appends(projection)
        is_started = _empty_and_reset(projection)
    if is_started:
        logger.info("the rebuild of projection %s was started by %s", name, by, extra={"projection": name, "by": by})
    return is_started


def _empty_and_reset(projection: Projection) -> bool:
    database = conf.settings().database
    with tracked_atomic(connections[database]):
        checkpoints = list(checkpoints_of(projection.name).select_for_update())
        if _is_under_way(projection, checkpoints):
            return False
        empty(projection.models, database)
        _reset(projection, checkpoints)
    return True


def _is_under_way(projection: Projection, checkpoints: list[ProjectionCheckpoint]) -> bool:
    """Return whether a partition is in a rebuild, and every other partition is in it as well or has finished it."""
    return any(each.status == CheckpointStatus.REBUILDING for each in checkpoints) and all(
        each.status in ACTIVE and each.partitions == projection.partitions for each in checkpoints
    )


def _reset(projection: Projection, checkpoints: list[ProjectionCheckpoint]) -> None:
    side_effects = merged_side_effects(checkpoints)
    if any(each.partitions != projection.partitions for each in checkpoints):
        checkpoints_of(projection.name).delete()
        create_checkpoints(projection, CheckpointStatus.PAUSED)
        checkpoints = list(checkpoints_of(projection.name))
    for checkpoint in checkpoints:
        checkpoint.position = 0
        checkpoint.side_effects = side_effects
        checkpoint.forget_failure()
        if checkpoint.status != CheckpointStatus.REBUILDING:
            transition(checkpoint, CheckpointStatus.REBUILDING)
        save(checkpoint)
