"""Rebuilds: a read model made anew from the log, while events go on being appended.

What a projection has told the outside is not told again. An inline projection is not moved by appends while it is being
rebuilt; the moments in which that begins and ends have no append in flight, so that none is missed or applied twice.
"""

import logging
from typing import TYPE_CHECKING, cast

from django.db import transaction

from es_django import conf
from es_django.errors import ProjectionStatusError
from es_django.models import ProjectionCheckpoint, StoredEvent
from es_django.models.projections import CheckpointStatus as Status
from es_django.projections.base import Projection, projection_named
from es_django.projections.checkpoints import checkpoints_of, create_checkpoints, refuse_nameless, save
from es_django.store import store_for
from es_django.store.failures import storage_errors

if TYPE_CHECKING:
    from es_django.store.database import DatabaseEventStore

logger = logging.getLogger("es_django.projections")


def start_rebuild(name: str, *, by: str) -> bool:
    """Empties a projection's models and sets it back to the beginning of the log, in one transaction.

    Whoever runs projections then replays the log: workers, or `run_projection`. Returns False, having done nothing, if
    a rebuild is under way. `by` tells who wants it. Appends that an inline projection follows must be made under READ
    COMMITTED, PostgreSQL's own default.

    Raises `UnknownProjection`, `ProjectionStatusError` if the projection has no `Meta.models`, and `StorageError`,
    retryable where appends to an inline projection are in flight for too long.
    """
    projection = projection_named(name)
    refuse_nameless(by)
    if not projection.models:
        raise ProjectionStatusError(name, "rebuilt", "it has no Meta.models, so what to empty is not known")
    database = conf.settings().database
    with storage_errors("start a rebuild"), transaction.atomic(using=database):
        if projection.is_inline():
            cast("DatabaseEventStore", store_for()).hold_inline_projections()
        if not checkpoints_of(name).exists():
            create_checkpoints(projection)
        checkpoints = list(checkpoints_of(name).select_for_update())
        if all(each.status == Status.REBUILDING and each.partitions == projection.partitions for each in checkpoints):
            return False
        for model in projection.models:
            model._base_manager.using(database).all().delete()
        _set_back(projection, checkpoints)
    logger.info("the rebuild of projection %s was started by %s", name, by, extra={"projection": name, "by": by})
    return True


def _set_back(projection: Projection, checkpoints: list[ProjectionCheckpoint]) -> None:
    told = [_told_until(projection, each) for each in checkpoints]
    if any(each.partitions != projection.partitions for each in checkpoints):
        # Other partitions have other streams: what all of them have told is sure to have been told.
        told = [min(told)] * projection.partitions
        checkpoints_of(projection.name).delete()
        create_checkpoints(projection)
        checkpoints = list(checkpoints_of(projection.name).select_for_update())
    for checkpoint, silent_until in zip(checkpoints, told, strict=True):
        checkpoint.position = 0
        checkpoint.silent_until = silent_until
        checkpoint.forget_failure()
        if checkpoint.status != Status.REBUILDING:
            checkpoint.become(Status.REBUILDING)
        save(checkpoint)


def _told_until(projection: Projection, checkpoint: ProjectionCheckpoint) -> int:
    """Up to where the projection has applied the log before, side effects included."""
    if projection.is_inline() and checkpoint.status == Status.RUNNING:
        newest = StoredEvent.objects.using(conf.settings().database).order_by("-position")
        return newest.values_list("position", flat=True).first() or 0
    return max(checkpoint.position, checkpoint.silent_until)
