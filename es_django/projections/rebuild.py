"""Rebuilds: a read model made anew from the log, while events go on being appended.

What a projection has told the outside is not told again. An inline projection is not moved by appends while it is being
rebuilt; the moments in which that begins and ends have no append in flight, so that none is missed or applied twice.
"""

import logging

from django.db import connections, transaction

from es_django import conf
from es_django.models import ProjectionCheckpoint
from es_django.models.projections import CheckpointStatus
from es_django.projections.base import Projection, projection_named
from es_django.projections.checkpoints import (
    ACTIVE,
    checkpoints_of,
    create_checkpoints,
    require_actor,
    save,
)
from es_django.projections.errors import ProjectionStatusError
from es_django.projections.foreign_keys import blocking_foreign_keys
from es_django.projections.handover import take_from_appends
from es_django.projections.side_effects import merged_side_effects
from es_django.projections.states import transition
from es_django.store.error_translation import storage_errors

logger: logging.Logger = logging.getLogger("es_django.projections")


def start_rebuild(name: str, *, by: str) -> bool:
    """Empties a projection's models and sets it back to the beginning of the log, in one transaction.

    Whoever runs projections then replays the log: workers, or `run_projection`. Returns False, having done nothing, if
    a rebuild is under way. `by` tells who wants it. Appends that an inline projection follows must be made under READ
    COMMITTED, PostgreSQL's own default; a start that is cut short leaves such a projection paused.

    Raises `UnknownProjection`, `ModeChanged`, `ProjectionStatusError` if the projection has no `Meta.models`, or if a
    relation of another model into them cascades, protects or restricts, and `StorageError`, retryable where appends to
    an inline projection are in flight for too long.
    """
    projection = projection_named(name)
    require_actor(by)
    if not projection.models:
        raise ProjectionStatusError(name, "rebuilt", "it has no Meta.models, so what to empty is not known")
    if foreign := blocking_foreign_keys(projection.models):
        reason = f"{', '.join(foreign)} would lose rows that are not the projection's, or forbid to empty its models"
        raise ProjectionStatusError(name, "rebuilt", reason)
    with storage_errors("start a rebuild", connections[conf.settings().database]):
        take_from_appends(projection)
        is_started = _empty_and_set_back(projection)
    if is_started:
        logger.info("the rebuild of projection %s was started by %s", name, by, extra={"projection": name, "by": by})
    return is_started


def _empty_and_set_back(projection: Projection) -> bool:
    database = conf.settings().database
    with transaction.atomic(using=database):
        checkpoints = list(checkpoints_of(projection.name).select_for_update())
        if _is_under_way(projection, checkpoints):
            return False
        for model in projection.models:
            model._base_manager.using(database).all().delete()
        _set_back(projection, checkpoints)
    return True


def _is_under_way(projection: Projection, checkpoints: list[ProjectionCheckpoint]) -> bool:
    """Some partitions may have ended theirs."""
    return any(each.status == CheckpointStatus.REBUILDING for each in checkpoints) and all(
        each.status in ACTIVE and each.partitions == projection.partitions for each in checkpoints
    )


def _set_back(projection: Projection, checkpoints: list[ProjectionCheckpoint]) -> None:
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
