"""Find out with one cheap query whether the runners have anything to do."""

from django.db import connections
from django.db.models import Subquery

from es_django import conf
from es_django.models import CheckpointStatus, ProjectionCheckpoint, StoredEvent
from es_django.projections.base import registered_projections
from es_django.store.error_translation import storage_errors


def has_work() -> bool:
    """Return whether a projection is behind the newest event, is being rebuilt, or has never run.

    Raise `StorageError` if the database fails.
    """
    using = conf.settings().database
    newest = StoredEvent.objects.using(using).order_by("-position").values("position")[:1]
    checkpoints = ProjectionCheckpoint.objects.using(using).annotate(newest=Subquery(newest))
    columns = "name", "partition", "partitions", "status", "position", "newest"
    with storage_errors("read the checkpoints", connections[using]):
        stored = list(checkpoints.values_list(*columns))
    expected = {
        (projection.name, partition, projection.partitions)
        for projection in registered_projections().values()
        if not projection.is_inline()
        for partition in range(projection.partitions)
    }
    for name, partition, partitions, status, position, newest_position in stored:
        known = (name, partition, partitions) in expected
        if status == CheckpointStatus.REBUILDING:
            return True
        if known and status == CheckpointStatus.RUNNING and position < (newest_position or 0):
            return True
        # A projection that was inline before is not run, and the runner says so.
        if known and status != CheckpointStatus.INLINE:
            expected.discard((name, partition, partitions))
    return bool(expected)
