"""Hand an inline projection over from the appends to a runner, and back.

While the checkpoint of an inline projection is `inline`, each append applies its own events. In every other status a
runner applies the log from the checkpoint, and appends leave the projection out. Each append first takes the lock that
step 2 waits for, and then reads the status. Each event is therefore applied once: by its append or by the runner.

From the appends to a runner, when a pause or a rebuild starts (`pause_checkpoint`):

1. Lock the checkpoint before step 2, so that appends never wait for a runner that holds the checkpoint.
2. Hold the appends: wait for the appends in flight, and make new appends wait until this transaction ends.
3. Set the checkpoint to the newest event. The appends have applied every event up to it.
4. Set the status to `paused` and commit. The appends that waited leave the projection out.

From a runner back to the appends, when a runner has reached the safe end of the log (`give_to_appends`):

1. Lock the checkpoint.
2. Hold the appends.
3. Read the remaining events up to the newest one. If there are more than `MAX_REMAINING`, leave them to the next batch.
4. Apply these events, set the status to `inline` and commit. The appends that waited apply their own events.

A step that fails rolls the whole hand-over back. A runner retries its hand-over after growing pauses; a pause or a
rebuild raises the error to its caller.
"""

from datetime import timedelta

from django.db import connections, transaction
from django.db.models.functions import Now

from es_django import conf
from es_django.core.logs import Log
from es_django.core.retryability import ends_process
from es_django.models import CheckpointStatus, ProjectionCheckpoint
from es_django.projections.base import Projection
from es_django.projections.checkpoints import (
    checkpoints_of,
    create_checkpoints,
    lock_due,
    newest_position,
    require_same_mode,
    save,
)
from es_django.projections.errors import ProjectionStatusError
from es_django.projections.failure_policy import needs_newer_code
from es_django.projections.side_effects import apply_events
from es_django.projections.states import transition
from es_django.store.backends import store_for
from es_django.store.commit_tracking import tracked_atomic
from es_django.store.database import DatabaseEventStore
from es_django.store.error_translation import storage_errors

logger: Log = Log("es_django.projections")

MAX_REMAINING = 100
"""The highest number of events that a hand-over applies while appends wait."""


def take_from_appends(projection: Projection) -> None:
    """Pause a projection if it runs inline.

    Appends wait until the transaction of this pause ends. Emptying the models may take long, so it is done in a later
    transaction.
    """
    with transaction.atomic(using=conf.settings().database):
        if not checkpoints_of(projection.name).exists():
            create_checkpoints(projection)
        checkpoints = list(checkpoints_of(projection.name).select_for_update())
        require_same_mode(projection, checkpoints)
        for checkpoint in checkpoints:
            if checkpoint.status == CheckpointStatus.INLINE:
                pause_checkpoint(checkpoint)


def pause_checkpoint(checkpoint: ProjectionCheckpoint) -> None:
    """Pause a checkpoint that the caller has locked. If it is inline, first take its projection from the appends."""
    if checkpoint.status == CheckpointStatus.INLINE:
        _hold_appends(checkpoint.name)
        checkpoint.position = newest_position()
    transition(checkpoint, CheckpointStatus.PAUSED)
    save(checkpoint)


def give_to_appends(projection: Projection) -> None:
    """Apply the remaining events of an inline projection, and let it run inline from now on."""
    using = conf.settings().database
    try:
        with storage_errors("end a rebuild", connections[using]), tracked_atomic(connections[using], durable=True):
            checkpoint = lock_due(projection, 0)
            if checkpoint is None:
                return
            store = _hold_appends(projection.name)
            page = store.read_to_newest(after=checkpoint.position, limit=MAX_REMAINING, types=projection.event_classes)
            if page.has_more:
                return
            apply_events(projection, checkpoint, page.events)
            checkpoint.position, checkpoint.side_effects = page.position, None
            checkpoint.forget_failure()
            transition(checkpoint, CheckpointStatus.INLINE)
            save(checkpoint)
    except BaseException as error:
        if ends_process(error):
            raise
        if needs_newer_code(error):
            return  # the next batch steps aside, and a pause would hold up a runner with the newer code
        # If an event fails here, it also fails in the next batch of the runner, which records the failure.
        ids = {"projection": projection.name}
        message = "projection %s could not return to inline mode, a runner applies its events and retries: %r"
        logger.warning(message, projection.name, error, extra=ids)
        _retry_later(projection)


def _retry_later(projection: Projection) -> None:
    """Postpone the next hand-over. While a hand-over waits for a long append to end, all other appends wait too.

    No event has failed, so `attempts` sets only the length of the pause.
    """
    using = conf.settings().database
    with storage_errors("postpone the end of a rebuild", connections[using]), transaction.atomic(using=using):
        checkpoint = lock_due(projection, 0)
        if checkpoint is not None:
            checkpoint.attempts += 1
            pause = conf.settings().projections.backoff.after(checkpoint.attempts)
            checkpoint.retry_at = Now() + timedelta(seconds=pause)
            save(checkpoint)


def _hold_appends(name: str) -> DatabaseEventStore:
    """Make appends that run inline projections wait until this transaction ends. Return the event store."""
    store = store_for()
    if not isinstance(store, DatabaseEventStore):
        raise ProjectionStatusError(name, "paused or rebuilt", "the event store is not in the database")
    store.hold_inline_projections()
    return store
