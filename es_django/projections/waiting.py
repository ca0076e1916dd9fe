"""Wait until a projection has caught up, so that a view can read its own writes."""

import time

from asgiref.sync import sync_to_async
from django.db import connections

from es_django import conf
from es_django.core.validation import require_position, require_seconds
from es_django.models import CheckpointStatus, ProjectionCheckpoint
from es_django.projections.base import Projection, projection_named
from es_django.projections.checkpoints import newest_position, stored_or_new
from es_django.projections.errors import ProjectionTimeout
from es_django.store.error_translation import storage_errors

SHORTEST_PAUSE, LONGEST_PAUSE = 0.005, 0.1


def wait_for(name: str, position: int | None = None, timeout: float = 5.0) -> None:
    """Wait until a projection has applied every event up to `position`, by default up to the newest event.

    Call this function after the transaction that appends the event: before the commit, no projection sees the event.

    Raises:
        UnknownProjection: No projection has this name.
        ValueError: `position` is not an integer of at least 0, or `timeout` is not a number of seconds.
        ProjectionTimeout: The projection did not reach the position within `timeout` seconds.
    """
    projection = projection_named(name)
    require_seconds("timeout", timeout)
    if position is not None:
        require_position(position=position)
    else:
        with storage_errors("read the end of the log", connections[conf.settings().database]):
            position = newest_position()
    deadline = time.monotonic() + timeout
    pause = SHORTEST_PAUSE
    while lagging := _lagging(projection, position):
        left = deadline - time.monotonic()
        if left <= 0:
            raise ProjectionTimeout(name, position, timeout, _state(lagging))
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE)


async def await_for(name: str, position: int | None = None, timeout: float = 5.0) -> None:
    """Wait as `wait_for` does, without blocking the event loop."""
    await sync_to_async(wait_for)(name, position, timeout)


def _lagging(projection: Projection, position: int) -> list[ProjectionCheckpoint]:
    with storage_errors("read a projection's checkpoints", connections[conf.settings().database]):
        checkpoints = stored_or_new(projection)
    if projection.is_inline():
        checkpoints = [each for each in checkpoints if each.status != CheckpointStatus.INLINE]
    return [each for each in checkpoints if each.position < position]


def _state(lagging: list[ProjectionCheckpoint]) -> str:
    slowest = min(lagging, key=lambda each: each.position)
    reason = f", needs newer code at position {slowest.failed_position}" if slowest.needs_newer_code else ""
    return f"status: {slowest.status}, position {slowest.position}{reason}"
