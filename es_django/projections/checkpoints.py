"""The checkpoints of projections, one for each partition."""

from collections.abc import Iterable

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from es_django import conf
from es_django.models import ProjectionCheckpoint, StoredEvent
from es_django.models.projections import CheckpointStatus
from es_django.projections.base import Projection, registered_projections
from es_django.projections.errors import ModeChanged, PartitionsChanged

ACTIVE = (CheckpointStatus.RUNNING, CheckpointStatus.REBUILDING)
"""The statuses in which runners move a checkpoint."""


def checkpoints_of(name: str) -> QuerySet[ProjectionCheckpoint]:
    """The checkpoints that are stored for a projection, in the order of its partitions."""
    stored = ProjectionCheckpoint.objects.using(conf.settings().database)
    return stored.filter(name=name).order_by("partition")


def ensure_checkpoints(projection: Projection) -> None:
    """Makes the checkpoints that are lacking. Raises `PartitionsChanged` if there are those of another number of
    partitions, and `ModeChanged` if the appends have moved what is asynchronous now."""
    stored = list(checkpoints_of(projection.name))
    require_same_mode(projection, stored)
    for checkpoint in stored:
        if checkpoint.partitions != projection.partitions:
            raise PartitionsChanged(projection.name, checkpoint.partitions, projection.partitions)
    if len(stored) < projection.partitions:
        create_checkpoints(projection)


def ensure_inline_checkpoints() -> list[str]:
    """Makes those of inline projections, which tell later that the appends have moved them, and returns the names of
    those that had none."""
    stored = ProjectionCheckpoint.objects.using(conf.settings().database).values_list("name", flat=True)
    known = set(stored)
    new = [each for each in registered_projections().values() if each.is_inline() and each.name not in known]
    for projection in new:
        create_checkpoints(projection)
    return [projection.name for projection in new]


def create_checkpoints(projection: Projection, status: CheckpointStatus | None = None) -> None:
    """Makes a checkpoint for each partition that has none, in a status or as of one that has never run."""
    checkpoints_of(projection.name).bulk_create(_new_checkpoints(projection, status), ignore_conflicts=True)


def stored_or_new(projection: Projection) -> list[ProjectionCheckpoint]:
    """How a projection stands, also if it has never run."""
    return list(checkpoints_of(projection.name)) or _new_checkpoints(projection)


def _new_checkpoints(projection: Projection, status: CheckpointStatus | None = None) -> list[ProjectionCheckpoint]:
    status = status or (CheckpointStatus.INLINE if projection.is_inline() else CheckpointStatus.RUNNING)
    name, count = projection.name, projection.partitions
    return [
        ProjectionCheckpoint(name=name, partition=number, partitions=count, status=status) for number in range(count)
    ]


def require_same_mode(projection: Projection, stored: Iterable[ProjectionCheckpoint]) -> None:
    if not projection.is_inline() and any(checkpoint.status == CheckpointStatus.INLINE for checkpoint in stored):
        raise ModeChanged(projection.name)


def lock_due(projection: Projection, partition: int) -> ProjectionCheckpoint | None:
    """Locks a checkpoint until the transaction ends; None if somebody else has, or it is not to be moved now."""
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
    """The position of the newest event; 0 if there is none."""
    events = StoredEvent.objects.using(conf.settings().database).order_by("-position")
    return events.values_list("position", flat=True).first() or 0


def require_actor(by: object) -> None:
    if not isinstance(by, str) or not by.strip():
        raise ValueError(f"what is done to a projection is done by somebody: name who asked for it, not {by!r}")
