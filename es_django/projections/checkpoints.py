"""The checkpoints of projections, one for each partition."""

from collections.abc import Iterable

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from es_django import conf
from es_django.errors import PartitionsChanged
from es_django.models import ProjectionCheckpoint
from es_django.models.projections import CheckpointStatus as Status
from es_django.projections.base import Projection


def checkpoints_of(name: str) -> QuerySet[ProjectionCheckpoint]:
    """The checkpoints that are stored for a projection, in the order of its partitions."""
    stored = ProjectionCheckpoint.objects.using(conf.settings().database)
    return stored.filter(name=name).order_by("partition")


def ensure_checkpoints(projection: Projection) -> None:
    """Makes the checkpoints that are lacking. Raises `PartitionsChanged` if there are those of another number of
    partitions."""
    stored = list(checkpoints_of(projection.name))
    refuse_other_partitions(projection, stored)
    if len(stored) < projection.partitions:
        create_checkpoints(projection)


def create_checkpoints(projection: Projection) -> None:
    """Makes a checkpoint for each partition that has none."""
    new = [
        ProjectionCheckpoint(name=projection.name, partition=number, partitions=projection.partitions)
        for number in range(projection.partitions)
    ]
    checkpoints_of(projection.name).bulk_create(new, ignore_conflicts=True)


def refuse_other_partitions(projection: Projection, stored: Iterable[ProjectionCheckpoint]) -> None:
    for checkpoint in stored:
        if checkpoint.partitions != projection.partitions:
            raise PartitionsChanged(projection.name, checkpoint.partitions, projection.partitions)


def lock_due(projection: Projection, partition: int) -> ProjectionCheckpoint | None:
    """Locks a checkpoint until the transaction ends; None if somebody else has, or it is not to be moved now."""
    statuses = [Status.REBUILDING] if projection.is_inline() else [Status.RUNNING, Status.REBUILDING]
    due = checkpoints_of(projection.name).filter(
        Q(retry_at=None) | Q(retry_at__lte=Now()),
        partition=partition,
        partitions=projection.partitions,
        status__in=statuses,
    )
    return due.select_for_update(skip_locked=True).first()


def save(checkpoint: ProjectionCheckpoint) -> None:
    checkpoint.updated_at = Now()
    checkpoint.save(using=conf.settings().database)


def refuse_nameless(by: str) -> None:
    if not by.strip():
        raise ValueError("what is done to a projection is done by somebody: name who asked for it")
