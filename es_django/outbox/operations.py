"""What an operator may do to messages. Each function logs what it did and who asked for it."""

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from uuid import UUID

from es_django.outbox.backends import outbox_store
from es_django.outbox.states import Transition

logger: logging.Logger = logging.getLogger("es_django.outbox")

CHUNK = 500


def requeue(message_ids: Iterable[UUID], *, by: str) -> list[UUID]:
    """Gives dead messages a new start: they are due at once, with no attempt counted.

    Later messages of their key may have been published before them. `by` names who asked for it, for the log. Returns
    the ids of those that were dead; the others are left alone. Raises `StorageError` if the database fails.
    """
    return _change_status(message_ids, Transition.REQUEUE, by)


def release(message_ids: Iterable[UUID], *, by: str) -> list[UUID]:
    """Makes messages due at once that wait, or that a worker holds; that worker can settle them no more. Where their
    attempts are used up, they have one more.

    A worker that still runs may publish its message all the same, so that it arrives twice. As `requeue` otherwise.
    """
    return _change_status(message_ids, Transition.RELEASE, by)


def discard(message_ids: Iterable[UUID], *, by: str) -> list[UUID]:
    """Gives up pending or dead messages for good; their key's later ones go on. As `requeue` otherwise."""
    return _change_status(message_ids, Transition.DISCARD, by)


def _change_status(message_ids: Iterable[UUID], transition: Transition, by: str) -> list[UUID]:
    if not by.strip():
        raise ValueError(f"messages are {transition.value} by somebody: name who asked for it")
    changed: list[UUID] = []
    for chunk in _chunks(message_ids):
        for message_id in outbox_store().change_status(chunk, transition):
            ids = {"message_id": message_id, "by": by}
            logger.info("message %s was %s by %s", message_id, transition.value, by, extra=ids)
            changed.append(message_id)
    return changed


def _chunks(ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    iterator = iter(ids)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
