"""Destinations that cannot be reached at all: they rest for a while, and their messages are not to blame.

Each process finds out for itself, since one may reach what another cannot.
"""

import logging
import time
from typing import NamedTuple

from django.core.signals import setting_changed

from es_django import conf
from es_django.errors import DestinationUnreachable

logger = logging.getLogger("es_django.outbox")

LONGEST_REST = 10.0
"""Seconds after which a destination is tried again at the latest, so that delivery goes on soon after an outage."""


class _Rest(NamedTuple):
    tries: int
    ends: float


_resting: dict[str, _Rest] = {}


def is_resting(destination: str) -> bool:
    """Whether it is too soon to try a destination again."""
    return destination in _resting and time.monotonic() < _resting[destination].ends


def note_unreachable(destination: str, error: DestinationUnreachable) -> None:
    """Lets a destination rest, longer from time to time; an outage is logged when it begins."""
    if destination not in _resting:
        ids = {"destination": destination}
        logger.error("destination %s cannot be reached, its messages wait: %s", destination, error, extra=ids)
    tries = _resting[destination].tries + 1 if destination in _resting else 1
    pause = min(LONGEST_REST, conf.settings().outbox.backoff.after(tries))
    _resting[destination] = _Rest(tries, time.monotonic() + pause)


def note_reached(destination: str) -> None:
    if _resting.pop(destination, None) is not None:
        logger.warning("destination %s is reached again", destination, extra={"destination": destination})


def _forget(setting: str, **kwargs: object) -> None:
    if setting == "ES_DJANGO":
        _resting.clear()


setting_changed.connect(_forget)
