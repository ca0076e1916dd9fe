"""Run projections from their checkpoints.

Each batch is one transaction that writes the read model and the checkpoint, so a crash repeats nothing and loses
nothing. One runner at a time locks a checkpoint; other runners leave its partition out.
"""

import random
import time
from collections import deque
from collections.abc import Iterator
from copy import copy

from django.db import connections

from es_django import conf
from es_django.core.logs import Log
from es_django.core.replay_errors import ReplayError
from es_django.core.retryability import ends_process
from es_django.models import CheckpointStatus, ProjectionCheckpoint
from es_django.projections.base import Projection, projection_named, registered_projections
from es_django.projections.checkpoints import ACTIVE, ensure_checkpoints, lock_due, save
from es_django.projections.failure_policy import record_failure
from es_django.projections.handover import give_to_appends
from es_django.projections.side_effects import apply_events, done_until
from es_django.projections.states import transition
from es_django.store.backends import store_for
from es_django.store.commit_tracking import tracked_atomic
from es_django.store.error_translation import storage_errors
from es_django.store.reads import Page, Partition

logger: Log = Log("es_django.projections")


def run_projections(*, seconds: float = 20.0) -> int:
    """Let the projections that runners apply catch up with the log: all asynchronous, and inline ones in a rebuild.

    Each projection gets at least one batch, and no batch starts after about `seconds`. If a projection fails, the
    others go on. Return the number of events applied.
    """
    deadline = time.monotonic() + seconds
    projections = _runnable()
    # In a fixed order, a projection that kills its process (by using all memory) would always starve the later ones.
    random.shuffle(projections)
    batches_of = {projection.name: _batches(projection) for projection in projections}
    total = 0
    # Take turns batch by batch, so that a projection with a long lag does not starve the others.
    while batches_of:
        for name, batches in list(batches_of.items()):
            try:
                applied = next(batches, None)
            except Exception:
                logger.exception("projection %s could not be run, trying again later", name, extra={"projection": name})
                applied = None
            if applied is None:
                del batches_of[name]
            else:
                total += applied
        if time.monotonic() >= deadline:
            break
    return total


def run_projection(name: str, *, seconds: float = 20.0) -> int:
    """Let one projection catch up with the log, and return the number of events applied.

    Leave out partitions that another runner has locked. Do nothing if the projection runs inline. No batch starts after
    about `seconds`. An event that fails is retried later, and an event that newer code wrote is left to a runner with
    that code, as `failure_policy` describes.

    Raises:
        UnknownProjection: No projection has this name.
        PartitionsChanged, ModeChanged: `Meta` does not fit the stored checkpoints.
        StorageError: The database failed outside an event, the log cannot be read, or a failure cannot be recorded.
    """
    deadline = time.monotonic() + seconds
    total = 0
    for applied in _batches(projection_named(name)):
        total += applied
        if time.monotonic() >= deadline:
            break
    return total


def _runnable() -> list[Projection]:
    active = ProjectionCheckpoint.objects.using(conf.settings().database).filter(status__in=ACTIVE)
    with storage_errors("read the checkpoints", connections[conf.settings().database]):
        names = set(active.values_list("name", flat=True))
    return [each for each in registered_projections().values() if not each.is_inline() or each.name in names]


def _batches(projection: Projection) -> Iterator[int]:
    """Apply batches of each partition in turn, and yield the number of events of each batch."""
    with storage_errors("create a projection's checkpoints", connections[conf.settings().database]):
        ensure_checkpoints(projection)
    partitions = deque(range(projection.partitions))
    while partitions:
        partition = partitions.popleft()
        applied, has_more = _run_batch(projection, partition)
        if has_more:
            partitions.append(partition)
        yield applied


def _run_batch(projection: Projection, partition: int) -> tuple[int, bool]:
    """Apply the next batch of a partition. Return its number of events, and whether another batch can start at once."""
    using, page = conf.settings().database, Page([], 0)
    before: ProjectionCheckpoint | None = None
    try:
        with storage_errors("run a projection", connections[using]), tracked_atomic(connections[using], durable=True):
            checkpoint = lock_due(projection, partition)
            if checkpoint is None:
                return 0, False
            before = copy(checkpoint)
            page = _next_page(projection, checkpoint)
            apply_events(projection, checkpoint, page.events)
            _advance(projection, checkpoint, page)
    except BaseException as error:
        positions = _suspects(page, error)
        if before is None or not positions or ends_process(error):
            raise
        return 0, record_failure(before, positions, error)
    if projection.is_inline() and not page.has_more:
        give_to_appends(projection)
    return len(page.events), page.has_more


def _suspects(page: Page, error: BaseException) -> list[int]:
    """Return the positions of the events that may have caused the error; none if no event did."""
    if isinstance(error, ReplayError) and error.position is not None and not page.events:
        return [error.position]
    return sorted({each.position for each in page.events})


def _next_page(projection: Projection, checkpoint: ProjectionCheckpoint) -> Page:
    """Return the next events. After a failed batch, return only half of its events, to bisect for the failing one."""
    share = Partition(checkpoint.partition, checkpoint.partitions)
    limit = conf.settings().projections.batch_size
    page = store_for().read_all(after=checkpoint.position, limit=limit, types=projection.event_classes, partition=share)
    suspects = sorted({each.position for each in page.events if each.position <= (checkpoint.failing_until or 0)})
    if not suspects:
        return page
    end = suspects[(len(suspects) - 1) // 2]
    return Page([each for each in page.events if each.position <= end], end, has_more=True)


def _advance(projection: Projection, checkpoint: ProjectionCheckpoint, page: Page) -> None:
    """Save the position after a batch. The last batch ends the rebuild of an asynchronous projection."""
    is_rebuilt = (
        checkpoint.status == CheckpointStatus.REBUILDING
        and not projection.is_inline()
        and not page.has_more
        and page.position >= done_until(checkpoint.side_effects or [])
    )
    if page.position == checkpoint.position and not is_rebuilt:
        return
    checkpoint.position = page.position
    if checkpoint.failing_until is not None and page.position >= checkpoint.failing_until:
        checkpoint.forget_failure()
    if is_rebuilt:
        transition(checkpoint, CheckpointStatus.RUNNING)
        checkpoint.side_effects = None
    save(checkpoint)
