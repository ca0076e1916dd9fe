"""Hand an inline projection over from the appends to a runner, and back.

While the checkpoint of an inline projection is `inline`, each append applies its own events. In every other status a
runner applies the log from the checkpoint, and appends leave the projection out. Each append reads the status after it
has taken the lock that step 2 waits for, so both sides agree about every event: none is missed, none is applied twice.

From the appends to a runner, when a pause or a rebuild starts (`pause_checkpoint`):

1. Lock the checkpoint. This comes first, so that appends never wait for a runner.
2. Hold the appends: let those in flight end, and make new ones wait until this transaction ends.
3. Set the checkpoint to the newest event. The appends have applied every event up to it.
4. Set the status to `paused` and commit. The appends that waited leave the projection out.

From a runner back to the appends, when a runner has reached the safe end of the log (`give_to_appends`):

1. Lock the checkpoint.
2. Hold the appends.
3. Read the remaining events up to the newest one. If there are more than `MAX_REMAINING`, leave them to the next batch.
4. Apply them, set the status to `inline` and commit. The appends that waited apply their own events.

A step that fails rolls the whole hand-over back. The runner then retries it after growing pauses.
"""

import logging
from datetime import timedelta

from django.db import connections, transaction
from django.db.models.functions import Now

from es_django import conf
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
from es_django.projections.side_effects import apply_events
from es_django.projections.states import transition
from es_django.store.backends import store_for
from es_django.store.commit_tracking import tracked_atomic
from es_django.store.database import DatabaseEventStore
from es_django.store.error_translation import storage_errors

logger: logging.Logger = logging.getLogger("es_django.projections")

MAX_REMAINING = 100
"""Number of events that may be applied while appends wait."""


def take_from_appends(projection: Projection) -> None:
    """Pause a projection if it runs inline.

    This is a transaction of its own: appends wait until it ends, and emptying the models may take long.
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
    """Pause a checkpoint that the caller has locked. An inline one is taken from the appends."""
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
        # An event that fails here fails in the next batch as well, and is recorded there.
        ids = {"projection": projection.name}
        logger.warning("projection %s could not go back inline, retrying later: %r", projection.name, error, extra=ids)
        _retry_later(projection)


def _retry_later(projection: Projection) -> None:
    """Postpone the next attempt: while one waits for a long append to end, all other appends wait too.

    `attempts` only sets the length of the pause. No event has failed.
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
    """Make the appends that an inline projection follows wait until the transaction ends. Return their store."""
    store = store_for()
    if not isinstance(store, DatabaseEventStore):
        raise ProjectionStatusError(name, "handed to a runner", "the event store is not in the database")
    store.hold_inline_projections()
    return store
