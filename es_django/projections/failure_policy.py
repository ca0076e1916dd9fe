"""What becomes of a projection that fails: the event that does it is found, tried again, and in the end stopped at."""

import logging
from collections.abc import Sequence
from datetime import timedelta

from django.db import connections, transaction
from django.db.models.functions import Now

from es_django import conf
from es_django.core.errors import EsDjangoError
from es_django.core.retryability import is_retryable
from es_django.core.serialization import storable_text
from es_django.models import ProjectionCheckpoint
from es_django.models.projections import CheckpointStatus
from es_django.projections.checkpoints import checkpoints_of, save
from es_django.projections.states import transition
from es_django.store.error_translation import storage_errors

logger: logging.Logger = logging.getLogger("es_django.projections")


def record_failure(before: ProjectionCheckpoint, positions: Sequence[int], error: BaseException) -> bool:
    """Writes down that a batch failed which began at `before` and had events at `positions`, one at least, in a
    transaction of its own, since that of the batch is gone. Returns whether a smaller batch can be tried at once."""
    using, settings = conf.settings().database, conf.settings().projections
    is_to_be_found = len(positions) > 1
    position = positions[0]
    with (
        storage_errors("note a projection's failure", connections[using]),
        transaction.atomic(using=using, durable=True),
    ):
        rows = checkpoints_of(before.name).filter(pk=before.pk).select_for_update(skip_locked=True)
        checkpoint = rows.first()
        if checkpoint is None or _standing(checkpoint) != _standing(before):
            return False  # another runner is at it, or has been, and notes what it meets itself
        checkpoint.last_error = _told(error)
        if is_to_be_found:
            checkpoint.failing_until = positions[-1]
        else:
            checkpoint.attempts = checkpoint.attempts + 1 if checkpoint.failed_position == position else 1
            checkpoint.failed_position = checkpoint.failing_until = position
            checkpoint.retry_at = Now() + timedelta(seconds=settings.backoff.after(checkpoint.attempts))
            is_hopeless = checkpoint.attempts >= settings.max_attempts and not is_retryable(error)
            if is_hopeless and checkpoint.status != CheckpointStatus.PAUSED:
                transition(checkpoint, CheckpointStatus.FAILED)
        save(checkpoint)
    ids = {"projection": before.name, "partition": before.partition, "position": position}
    if is_to_be_found:
        logger.warning("projection %s failed up to position %s: %r", before, positions[-1], error, extra=ids)
    else:
        logger.error("projection %s failed at position %s: %r", before, position, error, extra=ids)
    return is_to_be_found


def _standing(checkpoint: ProjectionCheckpoint) -> tuple[int, int, int | None]:
    """What every runner that does something with a checkpoint changes."""
    return checkpoint.position, checkpoint.attempts, checkpoint.failing_until


def _told(error: BaseException) -> str:
    """This package's errors say what to do."""
    return storable_text(f"{type(error).__name__}: {error}" if isinstance(error, EsDjangoError) else error)
