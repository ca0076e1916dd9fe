"""Waiting for the read side, so that a view can read what it has just written."""

import time

from asgiref.sync import sync_to_async
from django.db import connections

from es_django import conf
from es_django.core.validation import is_position, require_seconds
from es_django.models import ProjectionCheckpoint
from es_django.models.projections import CheckpointStatus
from es_django.projections.base import Projection, projection_named
from es_django.projections.checkpoints import newest_position, stored_or_new
from es_django.projections.errors import ProjectionTimeout
from es_django.store.error_translation import storage_errors

SHORTEST_PAUSE, LONGEST_PAUSE = 0.005, 0.1


def wait_for(name: str, position: int | None = None, timeout: float = 5.0) -> None:
    """Returns as soon as a projection has applied the event at `position` and all before it; where it is absent, the
    newest event of this moment.

    Raises `UnknownProjection`, `ValueError` for a position or a timeout that is none, and `ProjectionTimeout` if that
    takes more than `timeout` seconds. Call it after the commit of the event: within its transaction the wait would be
    in vain.
    """
    projection = projection_named(name)
    require_seconds("timeout", timeout)
    if position is not None and not is_position(position):
        raise ValueError(f"position is a number from 0 on, not {position!r}")
    if position is None:
        with storage_errors("look how long the log is", connections[conf.settings().database]):
            position = newest_position()
    deadline = time.monotonic() + timeout
    pause = SHORTEST_PAUSE
    while lagging := _lagging(projection, position):
        left = deadline - time.monotonic()
        if left <= 0:
            raise ProjectionTimeout(name, position, timeout, _state(lagging))
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE)


async def await_for(name: str, position: int | None = None, timeout: float = 5.0) -> None:  # the twin of wait_for
    """As `wait_for`."""
    await sync_to_async(wait_for)(name, position, timeout)


def _lagging(projection: Projection, position: int) -> list[ProjectionCheckpoint]:
    with storage_errors("look where a projection is", connections[conf.settings().database]):
        checkpoints = stored_or_new(projection)
    if projection.is_inline():
        checkpoints = [each for each in checkpoints if each.status != CheckpointStatus.INLINE]
    return [each for each in checkpoints if each.position < position]


def _state(lagging: list[ProjectionCheckpoint]) -> str:
    slowest = min(lagging, key=lambda each: each.position)
    return f"status: {slowest.status}, position {slowest.position}"
