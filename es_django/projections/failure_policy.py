"""What happens when a projection fails.

1. A batch fails: the next batches are smaller, until the failing event is alone in its batch.
2. The event fails alone: it is retried after growing pauses.
3. It has failed PROJECTIONS["MAX_ATTEMPTS"] times, and the error is not retryable: the checkpoint becomes `failed`.
   An operator resumes the projection or skips the event.
"""

from collections.abc import Sequence
from datetime import timedelta

from django.db import connections, transaction
from django.db.models.functions import Now

from es_django import conf
from es_django.core.errors import EsDjangoError
from es_django.core.logs import Log
from es_django.core.retryability import is_retryable
from es_django.core.serialization import storable_text
from es_django.models import CheckpointStatus, ProjectionCheckpoint
from es_django.projections.checkpoints import checkpoints_of, save
from es_django.projections.states import transition
from es_django.store.error_translation import storage_errors

logger: Log = Log("es_django.projections")


def record_failure(before: ProjectionCheckpoint, positions: Sequence[int], error: BaseException) -> bool:
    """Record a failed batch in a new transaction, because the transaction of the batch was rolled back.

    `before` is the checkpoint at the start of the batch, and `positions` are the positions of its events (at least
    one). Return True if a smaller batch can be tried at once.
    """
    using, settings = conf.settings().database, conf.settings().projections
    is_ambiguous = len(positions) > 1
    position = positions[0]
    with (
        storage_errors("record a projection's failure", connections[using]),
        transaction.atomic(using=using, durable=True),
    ):
        rows = checkpoints_of(before.name).filter(pk=before.pk).select_for_update(skip_locked=True)
        checkpoint = rows.first()
        if checkpoint is None or _progress(checkpoint) != _progress(before):
            return False  # another runner has taken this checkpoint over, and records its own failures
        checkpoint.last_error = _error_text(error)
        if is_ambiguous:
            checkpoint.failing_until = positions[-1]
        else:
            checkpoint.attempts = checkpoint.attempts + 1 if checkpoint.failed_position == position else 1
            checkpoint.failed_position = checkpoint.failing_until = position
            checkpoint.retry_at = Now() + timedelta(seconds=settings.backoff.after(checkpoint.attempts))
            is_final = checkpoint.attempts >= settings.max_attempts and not is_retryable(error)
            if is_final and checkpoint.status != CheckpointStatus.PAUSED:
                transition(checkpoint, CheckpointStatus.FAILED)
        save(checkpoint)
    ids = {"projection": before.name, "partition": before.partition, "position": position}
    if is_ambiguous:
        message = "projection %s failed up to position %s, trying smaller batches to find the event: %r"
        logger.warning(message, before, positions[-1], error, extra=ids)
    else:
        outcome = "is failed and stops" if checkpoint.status == CheckpointStatus.FAILED else "failed, and tries again"
        logger.error("projection %s %s at position %s: %r", before, outcome, position, error, exc_info=error, extra=ids)
    return is_ambiguous


def _progress(checkpoint: ProjectionCheckpoint) -> tuple[int, int, int | None]:
    """Return values that change with every batch of the checkpoint, whether the batch succeeds or fails."""
    return checkpoint.position, checkpoint.attempts, checkpoint.failing_until


def _error_text(error: BaseException) -> str:
    """Return the text to store: the message of an es_django error, which names the remedy, or the repr of another."""
    return storable_text(f"{type(error).__name__}: {error}" if isinstance(error, EsDjangoError) else error)
