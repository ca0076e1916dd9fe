"""Destinations that cannot be reached at all: they rest for a while, and their messages are not to blame.

Each process finds out for itself, since one may reach what another cannot.
"""

import logging
import time
from typing import NamedTuple

from django.core.signals import setting_changed

from es_django import conf
from es_django.outbox.errors import DestinationUnreachable

logger: logging.Logger = logging.getLogger("es_django.outbox")

LONGEST_REST = 10.0
"""Seconds after which a destination is tried again at the latest, so that delivery goes on soon after an outage."""


class _Rest(NamedTuple):
    tries: int
    ends: float
    error: DestinationUnreachable


_resting: dict[str, _Rest] = {}


def is_resting(destination: str) -> bool:
    """Whether it is too soon to try a destination again."""
    rest = _resting.get(destination)
    return rest is not None and time.monotonic() < rest.ends


def unreached() -> dict[str, DestinationUnreachable]:
    """The destinations that could not be reached when they were last tried, with the reason."""
    return {destination: rest.error for destination, rest in list(_resting.items())}


def note_unreachable(destination: str, error: DestinationUnreachable) -> None:
    """Lets a destination rest, longer from time to time; an outage is logged when it begins."""
    before = _resting.get(destination)
    if before is None:
        ids = {"destination": destination}
        logger.error("destination %s cannot be reached, its messages wait: %s", destination, error, extra=ids)
    tries = before.tries + 1 if before is not None else 1
    pause = min(LONGEST_REST, conf.settings().outbox.backoff.after(tries))
    _resting[destination] = _Rest(tries, time.monotonic() + pause, error)


def note_reached(destination: str) -> None:
    if _resting.pop(destination, None) is not None:
        logger.warning("destination %s is reached again", destination, extra={"destination": destination})


def _forget(setting: str, **kwargs: object) -> None:
    if setting == "ES_DJANGO":
        _resting.clear()


setting_changed.connect(_forget)
