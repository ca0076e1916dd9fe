"""Runs projections from their checkpoints: one transaction a batch, which holds the effects and the checkpoint.

A crash anywhere repeats nothing and loses nothing. Whoever locks the checkpoint runs the projection; others step aside.
"""

import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, cast

from django.db import transaction
from django.db.models.functions import Now

from es_django import conf
from es_django.errors import EsDjangoError, is_retryable
from es_django.events import RecordedEvent
from es_django.models import ProjectionCheckpoint
from es_django.models.projections import CheckpointStatus as Status
from es_django.observability import Kind, at_work
from es_django.payloads import storable_text
from es_django.projections.base import Projection, projection_named, registered_projections
from es_django.projections.checkpoints import checkpoints_of, ensure_checkpoints, lock_due, save
from es_django.store import store_for
from es_django.store.base import Partition
from es_django.store.failures import refuse_swallowed_failure, storage_errors
from es_django.store.reactions import replaying

if TYPE_CHECKING:
    from es_django.store.database import DatabaseEventStore

logger = logging.getLogger("es_django.projections")


class _BatchFailed(Exception):
    """A batch was rolled back; it would have gone from `after` on, and held the events at `positions`."""

    def __init__(self, after: int | None, positions: Sequence[int]) -> None:
        super().__init__(after, positions)
        self.after = after
        self.positions = positions


def run_projections(*, seconds: float = 20.0) -> int:
    """Brings every asynchronous projection, and those that are being rebuilt, up to the end of the log, within about
    `seconds`, and returns how many events were applied. One that fails does not stop the others."""
    deadline = time.monotonic() + seconds
    total = 0
    for projection in _runnable():
        try:
            total += run_projection(projection.name, seconds=deadline - time.monotonic())
        except EsDjangoError:
            logger.exception("projection %s could not be run", projection.name, extra={"projection": projection.name})
    return total


def run_projection(name: str, *, seconds: float = 20.0) -> int:
    """Brings one projection up to the end of the log, all its partitions that nobody else is at, and returns how many
    events were applied. An inline projection has nothing to be brought up to, unless it is being rebuilt.

    An event that fails is tried again later, after growing pauses; after PROJECTIONS["MAX_ATTEMPTS"] the projection is
    `failed` at that event until an operator decides, unless the error `is_retryable`. Raises `UnknownProjection`,
    `PartitionsChanged`, and `StorageError` if not even the failure can be noted.
    """
    projection = projection_named(name)
    if not projection.is_inline():
        with storage_errors("make a projection's checkpoints"):
            ensure_checkpoints(projection)
    deadline = time.monotonic() + seconds
    limits = dict.fromkeys(range(projection.partitions), conf.settings().projections.batch_size)
    total = 0
    while limits and time.monotonic() < deadline:
        for partition, limit in list(limits.items()):
            try:
                applied, is_done = _run_batch(projection, partition, limit)
            except _BatchFailed as failure:
                if len(failure.positions) > 1:
                    # Smaller batches leave less before the event that fails, and in the end nothing but it.
                    limits[partition] = min(limit, len(failure.positions)) // 2
                    continue
                _note_failure(projection, partition, failure)
                applied, is_done = 0, True
            total += applied
            if is_done:
                del limits[partition]
    return total


def _runnable() -> list[Projection]:
    known = registered_projections().values()
    rebuilding = ProjectionCheckpoint.objects.using(conf.settings().database).filter(status=Status.REBUILDING)
    with storage_errors("look for projections that are being rebuilt"):
        names = set(rebuilding.values_list("name", flat=True))
    return [each for each in known if not each.is_inline() or each.name in names]


def _run_batch(projection: Projection, partition: int, limit: int) -> tuple[int, bool]:
    """Applies the next events, at most `limit`, and returns how many, and whether that was all there is to do now, or
    for this runner."""
    settings = conf.settings()
    after: int | None = None
    events: Sequence[RecordedEvent] = []
    try:
        with storage_errors("run a projection"), transaction.atomic(using=settings.database, durable=True):
            checkpoint = lock_due(projection, partition)
            if checkpoint is None:
                return 0, True
            after = checkpoint.position
            if checkpoint.attempts:
                limit = 1
            share = Partition(partition, projection.partitions)
            page = store_for().read_all(after=after, limit=limit, types=projection.event_classes, partition=share)
            events = page.events
            ends_rebuild = checkpoint.status == Status.REBUILDING and len(events) < limit
            if page.position == after and not ends_rebuild:
                return 0, True
            _apply(projection, events, checkpoint)
            if ends_rebuild and not projection.is_inline():
                checkpoint.become(Status.RUNNING)
            _move(checkpoint, page.position)
    except Exception as error:
        raise _BatchFailed(after, sorted({each.position for each in events})) from error
    if ends_rebuild and projection.is_inline():
        _hand_over(projection)
    return len(events), ends_rebuild


def _hand_over(projection: Projection) -> None:
    """Ends the rebuild of an inline projection: applies what is left while no append is in flight; from then on appends
    move it. If that fails, the next run tries again."""
    settings = conf.settings()
    try:
        with storage_errors("end a rebuild"), transaction.atomic(using=settings.database, durable=True):
            store = cast("DatabaseEventStore", store_for())
            store.hold_inline_projections()
            checkpoint = lock_due(projection, 0)
            if checkpoint is None:
                return
            types, limit = projection.event_classes, settings.projections.batch_size
            while (page := store.read_settled(after=checkpoint.position, limit=limit, types=types)).events:
                _apply(projection, page.events, checkpoint)
                checkpoint.position = page.position
            checkpoint.delete()
    except Exception as error:
        # A batch meets whatever it is as well, and notes it.
        ids = {"projection": projection.name}
        logger.warning("the rebuild of projection %s could not end yet: %r", projection.name, error, extra=ids)


def _apply(projection: Projection, events: Sequence[RecordedEvent], checkpoint: ProjectionCheckpoint) -> None:
    if not events:
        return
    with at_work(Kind.PROJECT, projection.name, len(events), (recorded.metadata for recorded in events)):
        for again, group in groupby(events, key=lambda recorded: recorded.position <= checkpoint.silent_until):
            with replaying(again):
                projection.project_batch(list(group))
        refuse_swallowed_failure(conf.settings().database, f"run projection {projection.name}")


def _move(checkpoint: ProjectionCheckpoint, position: int) -> None:
    checkpoint.position = position
    if checkpoint.failed_position is None or position >= checkpoint.failed_position:
        checkpoint.forget_failure()
    save(checkpoint)


def _note_failure(projection: Projection, partition: int, failure: _BatchFailed) -> None:
    """Written in a transaction of its own, since that of the batch is gone."""
    settings = conf.settings()
    error = cast("Exception", failure.__cause__)
    position = failure.positions[0] if failure.positions else getattr(error, "position", None)
    with (
        storage_errors("note a projection's failure"),
        transaction.atomic(using=settings.database, durable=True),
    ):
        checkpoint = checkpoints_of(projection.name).select_for_update().filter(partition=partition).first()
        if checkpoint is None or failure.after not in (None, checkpoint.position):
            return  # somebody else has gone on meanwhile
        checkpoint.attempts = checkpoint.attempts + 1 if checkpoint.failed_position == position else 1
        checkpoint.failed_position = position
        checkpoint.last_error = storable_text(error)
        checkpoint.retry_at = Now() + timedelta(seconds=settings.projections.backoff.after(checkpoint.attempts))
        is_hopeless = checkpoint.attempts >= settings.projections.max_attempts and not is_retryable(error)
        if is_hopeless and checkpoint.status != Status.PAUSED:
            checkpoint.become(Status.FAILED)
        save(checkpoint)
    ids = {"projection": projection.name, "partition": partition, "position": position}
    logger.error("projection %s failed at position %s: %r", checkpoint, position, error, extra=ids)
