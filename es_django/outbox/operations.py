"""The transitions that an operator may ask for. Each changed message is logged with the operator's name."""

from collections.abc import Iterable
from uuid import UUID

from es_django.core.chunks import chunks
from es_django.core.logs import Log
from es_django.core.validation import require_operator
from es_django.outbox.backends import outbox_store
from es_django.outbox.states import Transition

logger: Log = Log("es_django.outbox")


def requeue(message_ids: Iterable[UUID], *, by: str) -> list[UUID]:
    """Make dead messages due at once, and reset their attempts to 0. Leave messages of another status unchanged.

    A requeued message may be published after later messages of its key. `by` names the operator, for the log. Return
    the ids of the requeued messages.

    Raises:
        StorageError: the database failed.
        ValueError: `by` is blank.
    """
    return _change_status(message_ids, Transition.REQUEUE, by)


def release(message_ids: Iterable[UUID], *, by: str) -> list[UUID]:
    """Make pending and claimed messages due at once, with at least one attempt left.

    The worker of a claimed message can no longer settle the claim. If that worker still runs, the message may arrive
    twice. The argument `by`, the result and the errors are those of `requeue`.
    """
    return _change_status(message_ids, Transition.RELEASE, by)


def discard(message_ids: Iterable[UUID], *, by: str) -> list[UUID]:
    """Give up pending and dead messages for good. They no longer hold back later messages of their keys.

    The argument `by`, the result and the errors are those of `requeue`.
    """
    return _change_status(message_ids, Transition.DISCARD, by)


def _change_status(message_ids: Iterable[UUID], transition: Transition, by: str) -> list[UUID]:
    require_operator(by)
    changed: list[UUID] = []
    for chunk in chunks(message_ids):
        for message_id in outbox_store().change_status(chunk, transition):
            ids = {"message_id": message_id, "by": by}
            logger.info("message %s was %s by %s", message_id, transition.value, by, extra=ids)
            changed.append(message_id)
    return changed
