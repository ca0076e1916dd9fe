"""The checkpoints of projections, one for each partition."""

from collections.abc import Iterable

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from es_django import conf
from es_django.core.chunks import CHUNK
from es_django.models import CheckpointStatus, ProjectionCheckpoint, StoredEvent
from es_django.projections.base import Projection, registered_projections
from es_django.projections.errors import ModeChanged, PartitionsChanged

ACTIVE = (CheckpointStatus.RUNNING, CheckpointStatus.REBUILDING)
"""The statuses in which a runner advances a checkpoint."""


def checkpoints_of(name: str) -> QuerySet[ProjectionCheckpoint]:
    """Return the stored checkpoints of a projection, ordered by partition."""
    stored = ProjectionCheckpoint.objects.using(conf.settings().database)
    return stored.filter(name=name).order_by("partition")


def ensure_checkpoints(projection: Projection) -> None:
    """Create the checkpoints that are missing.

    Raises:
        PartitionsChanged: The stored checkpoints were created for another number of partitions.
        ModeChanged: The projection ran inline and is asynchronous now.
    """
    stored = list(checkpoints_of(projection.name))
    require_same_mode(projection, stored)
    for checkpoint in stored:
        if checkpoint.partitions != projection.partitions:
            raise PartitionsChanged(projection.name, checkpoint.partitions, projection.partitions)
    if len(stored) < projection.partitions:
        create_checkpoints(projection)


def ensure_inline_checkpoints() -> list[str]:
    """Create the missing checkpoints of inline projections, and return the names of those projections.

    If the mode of a projection changes later, its checkpoint shows that the projection ran inline before.
    """
    stored = ProjectionCheckpoint.objects.using(conf.settings().database).values_list("name", flat=True)
    known = set(stored)
    new = [each for each in registered_projections().values() if each.is_inline() and each.name not in known]
    for projection in new:
        create_checkpoints(projection)
    return [projection.name for projection in new]


def create_checkpoints(projection: Projection, status: CheckpointStatus | None = None) -> None:
    """Create a checkpoint for each partition that has none. By default `mode` decides the status."""
    new = _new_checkpoints(projection, status)
    checkpoints_of(projection.name).bulk_create(new, ignore_conflicts=True, batch_size=CHUNK)


def stored_or_new(projection: Projection) -> list[ProjectionCheckpoint]:
    """Return the stored checkpoints of a projection, or new, unsaved ones if the projection has never run."""
    return list(checkpoints_of(projection.name)) or _new_checkpoints(projection)


def _new_checkpoints(projection: Projection, status: CheckpointStatus | None = None) -> list[ProjectionCheckpoint]:
    status = status or (CheckpointStatus.INLINE if projection.is_inline() else CheckpointStatus.RUNNING)
    name, count = projection.name, projection.partitions
    return [
        ProjectionCheckpoint(name=name, partition=number, partitions=count, status=status) for number in range(count)
    ]


def require_same_mode(projection: Projection, stored: Iterable[ProjectionCheckpoint]) -> None:
    """Raise `ModeChanged` if the projection ran inline and is asynchronous now."""
    if not projection.is_inline() and any(checkpoint.status == CheckpointStatus.INLINE for checkpoint in stored):
        raise ModeChanged(projection.name)


def lock_due(projection: Projection, partition: int) -> ProjectionCheckpoint | None:
    """Lock and return the checkpoint of a partition, until the transaction ends.

    Return None if another process has locked the checkpoint, its retry is not due, or its status is not in `ACTIVE`.
    """
    due = checkpoints_of(projection.name).filter(
        Q(retry_at=None) | Q(retry_at__lte=Now()),
        partition=partition,
        partitions=projection.partitions,
        status__in=ACTIVE,
    )
    return due.select_for_update(skip_locked=True).first()


def save(checkpoint: ProjectionCheckpoint) -> None:
    checkpoint.updated_at = Now()
    checkpoint.save(using=conf.settings().database)


def newest_position() -> int:
    """Return the position of the newest event, or 0 if the log is empty."""
    events = StoredEvent.objects.using(conf.settings().database).order_by("-position")
    return events.values_list("position", flat=True).first() or 0
