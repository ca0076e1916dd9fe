"""Runs projections from their checkpoints: one transaction a batch, which holds the effects and the checkpoint.

A crash anywhere repeats nothing and loses nothing. Whoever locks the checkpoint runs the projection; others step aside.
"""

import logging
import random
import time
from collections import deque
from collections.abc import Iterator
from copy import copy

from django.db import connections, transaction

from es_django import conf
from es_django.core.replay_errors import ReplayError
from es_django.core.retryability import ends_process
from es_django.models import ProjectionCheckpoint
from es_django.models.projections import CheckpointStatus
from es_django.projections.base import Projection, projection_named, registered_projections
from es_django.projections.checkpoints import ACTIVE, ensure_checkpoints, lock_due, save
from es_django.projections.failure_policy import record_failure
from es_django.projections.handover import give_to_appends
from es_django.projections.side_effects import apply_events, done_until
from es_django.projections.states import transition
from es_django.store.backends import store_for
from es_django.store.error_translation import storage_errors
from es_django.store.reads import Page, Partition

logger: logging.Logger = logging.getLogger("es_django.projections")


def run_projections(*, seconds: float = 20.0) -> int:
    """Brings every asynchronous projection, and inline ones that are being rebuilt, towards the end of the log, and
    returns how many events were applied. Each has at least one batch, and no more are begun after about `seconds`. One
    that fails does not stop the others."""
    deadline = time.monotonic() + seconds
    projections = _runnable()
    # One that takes its process along, out of memory for instance, would otherwise keep those behind it from every run.
    random.shuffle(projections)
    waiting = {projection.name: _batches(projection) for projection in projections}
    total = 0
    # A batch of each in turn, so that one that is far behind does not starve the others.
    while waiting:
        for name, batches in list(waiting.items()):
            try:
                applied = next(batches, None)
            except Exception:
                logger.exception("projection %s could not be run", name, extra={"projection": name})
                applied = None
            if applied is None:
                del waiting[name]
            else:
                total += applied
        if time.monotonic() >= deadline:
            break
    return total


def run_projection(name: str, *, seconds: float = 20.0) -> int:
    """Brings one projection towards the end of the log, all its partitions that nobody else is at, and returns how many
    events were applied; no batch is begun after about `seconds`. What the appends move has nothing to be brought up to.

    An event that fails is tried again later, after growing pauses; after PROJECTIONS["MAX_ATTEMPTS"] the projection is
    `failed` at that event until an operator decides, unless the error `is_retryable`. Raises `UnknownProjection`,
    `PartitionsChanged`, `ModeChanged`, and whatever belongs to no event: `StorageError` if the database fails before
    the projection does, or refuses to read the log, or if not even a failure can be noted.
    """
    deadline = time.monotonic() + seconds
    total = 0
    for applied in _batches(projection_named(name)):
        total += applied
        if time.monotonic() >= deadline:
            break
    return total


def _runnable() -> list[Projection]:
    moving = ProjectionCheckpoint.objects.using(conf.settings().database).filter(status__in=ACTIVE)
    with storage_errors("look which projections are to be run", connections[conf.settings().database]):
        names = set(moving.values_list("name", flat=True))
    return [each for each in registered_projections().values() if not each.is_inline() or each.name in names]


def _batches(projection: Projection) -> Iterator[int]:
    """Applies one batch after the other, of each partition in turn, and tells of each how many events it had."""
    with storage_errors("make a projection's checkpoints", connections[conf.settings().database]):
        ensure_checkpoints(projection)
    partitions = deque(range(projection.partitions))
    while partitions:
        partition = partitions.popleft()
        applied, has_more = _run_batch(projection, partition)
        if has_more:
            partitions.append(partition)
        yield applied


def _run_batch(projection: Projection, partition: int) -> tuple[int, bool]:
    """Applies the next events, and returns how many, and whether this runner can go on at once."""
    using, page = conf.settings().database, Page([], 0)
    before: ProjectionCheckpoint | None = None
    try:
        with storage_errors("run a projection", connections[using]), transaction.atomic(using=using, durable=True):
            checkpoint = lock_due(projection, partition)
            if checkpoint is None:
                return 0, False
            before = copy(checkpoint)
            page = _next_page(projection, checkpoint)
            apply_events(projection, checkpoint, page.events)
            _move(projection, checkpoint, page)
    except BaseException as error:
        positions = _positions(page, error)
        if before is None or not positions or ends_process(error):
            raise
        return 0, record_failure(before, positions, error)
    if projection.is_inline() and not page.has_more:
        give_to_appends(projection)
    return len(page.events), page.has_more


def _positions(page: Page, error: BaseException) -> list[int]:
    """Those of the events of which one has failed; none where it was the database, or how it is set up."""
    if isinstance(error, ReplayError) and error.position is not None and not page.events:
        return [error.position]
    return sorted({each.position for each in page.events})


def _next_page(projection: Projection, checkpoint: ProjectionCheckpoint) -> Page:
    """The next events. Where one of them fails, the first half of those among which it is: in the end it alone."""
    share = Partition(checkpoint.partition, checkpoint.partitions)
    limit = conf.settings().projections.batch_size
    page = store_for().read_all(after=checkpoint.position, limit=limit, types=projection.event_classes, partition=share)
    suspects = sorted({each.position for each in page.events if each.position <= (checkpoint.failing_until or 0)})
    if not suspects:
        return page
    end = suspects[(len(suspects) - 1) // 2]
    return Page([each for each in page.events if each.position <= end], end, has_more=True)


def _move(projection: Projection, checkpoint: ProjectionCheckpoint, page: Page) -> None:
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
