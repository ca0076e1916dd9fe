"""What happens when a projection fails.

1. A batch fails: the next batches are smaller, until the failing event is alone in its batch.
2. The event fails alone: it is retried after growing pauses.
3. It has failed PROJECTIONS["MAX_ATTEMPTS"] times, and the error is not retryable: the checkpoint becomes `failed`.
   An operator resumes the projection or skips the event.

During a rolling deployment, old code meets events that newer code wrote. Such an event has not failed: the runner steps
aside. It counts no attempt and makes no pause, so a runner with the newer code can apply the event at any time. The
checkpoint says that it needs newer code.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from django.db import connections, transaction
from django.db.models.functions import Now

from es_django import conf
from es_django.core.errors import EsDjangoError
from es_django.core.logs import Log
from es_django.core.replay_errors import UnknownEventType, UnsupportedEventVersion
from es_django.core.retryability import is_retryable
from es_django.core.serialization import storable_text
from es_django.models import CheckpointStatus, ProjectionCheckpoint
from es_django.projections.checkpoints import checkpoints_of, save
from es_django.projections.states import transition
from es_django.store.error_translation import storage_errors

logger: Log = Log("es_django.projections")

_stepped_aside: deque[tuple[str, int, int, str]] = deque(maxlen=1000)
"""The name, partition, position and error of each event at which this process stepped aside, for one log record each.

The error belongs to the key, because the same position exists in the log of each tenant.
"""


def needs_newer_code(error: BaseException | None) -> bool:
    """Return whether the error, or an error that caused it, shows that newer code wrote the event."""
    while error is not None:
        if isinstance(error, UnsupportedEventVersion | UnknownEventType):
            return True
        error = error.__cause__
    return False


def has_stepped_aside(checkpoint: ProjectionCheckpoint) -> bool:
    """Return whether the code of this process is too old for the event at which the checkpoint stops."""
    place = checkpoint.name, checkpoint.partition, checkpoint.failed_position
    return checkpoint.needs_newer_code and any(known[:3] == place for known in list(_stepped_aside))


def record_failure(before: ProjectionCheckpoint, positions: Sequence[int], error: BaseException) -> bool:
    """Record a failed batch in a new transaction, because the transaction of the batch was rolled back.

    `before` is the checkpoint at the start of the batch, and `positions` are the positions of its events (at least
    one). Return True if a smaller batch can be tried at once.
    """
    is_ambiguous = len(positions) > 1
    position = positions[0]
    if needs_newer_code(error) and not is_ambiguous:
        _step_aside(before, position, error)
        return False
    settings = conf.settings().projections
    with _locked(before) as checkpoint:
        if checkpoint is None:
            return False
        checkpoint.last_error, checkpoint.needs_newer_code = _error_text(error), False
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


def _step_aside(before: ProjectionCheckpoint, position: int, error: BaseException) -> None:
    """Leave the event to a runner with newer code.

    Old runners meet the event again and again, so they write the reason once for all, and each process logs it once.
    """
    text = _error_text(error)
    if not (before.needs_newer_code and before.failed_position == position):
        with _locked(before) as checkpoint:
            if checkpoint is not None:
                if checkpoint.failed_position != position:
                    checkpoint.attempts, checkpoint.retry_at = 0, None
                # Attempts at this event are those of newer code. Its error must stay visible.
                if not checkpoint.attempts:
                    checkpoint.last_error = text
                checkpoint.failed_position = checkpoint.failing_until = position
                checkpoint.needs_newer_code = True
                save(checkpoint)
    key = before.name, before.partition, position, text
    if key not in _stepped_aside:
        _stepped_aside.append(key)
        ids = {"projection": before.name, "partition": before.partition, "position": position}
        message = "projection %s needs newer code at position %s, and waits for a runner that has it: %s"
        logger.warning(message, before, position, text, extra=ids)


@contextmanager
def _locked(before: ProjectionCheckpoint) -> Iterator[ProjectionCheckpoint | None]:
    """Lock the checkpoint in a transaction of its own. Yield None if another runner has taken it over since `before`.

    That runner records its own failures.
    """
    using = conf.settings().database
    with (
        storage_errors("record a projection's failure", connections[using]),
        transaction.atomic(using=using, durable=True),
    ):
        rows = checkpoints_of(before.name).filter(pk=before.pk).select_for_update(skip_locked=True)
        checkpoint = rows.first()
        is_same = checkpoint is not None and _progress(checkpoint) == _progress(before)
        yield checkpoint if is_same else None


def _progress(checkpoint: ProjectionCheckpoint) -> tuple[int, int, int | None]:
    """Return values that change with every batch of the checkpoint, whether the batch succeeds or fails."""
    return checkpoint.position, checkpoint.attempts, checkpoint.failing_until


def _error_text(error: BaseException) -> str:
    """Return the text to store: the message of an es_django error, which names the remedy, or the repr of another."""
    return storable_text(f"{type(error).__name__}: {error}" if isinstance(error, EsDjangoError) else error)
