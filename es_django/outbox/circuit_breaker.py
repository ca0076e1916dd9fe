"""Circuit breakers: while a destination is unreachable, its messages wait and lose no attempts.

Each process has its own circuit breakers, because one process may reach a destination that another cannot reach.
"""

import logging
import time
from typing import NamedTuple

from django.core.signals import setting_changed

from es_django import conf
from es_django.outbox.errors import DestinationUnreachable
from es_django.outbox.retry_policy import seconds_open

logger: logging.Logger = logging.getLogger("es_django.outbox")


class _Circuit(NamedTuple):
    failures: int
    open_until: float
    error: DestinationUnreachable


_circuits: dict[str, _Circuit] = {}


def is_open(destination: str) -> bool:
    """Return whether it is too early to try the destination again."""
    circuit = _circuits.get(destination)
    return circuit is not None and time.monotonic() < circuit.open_until


def unreachable_destinations() -> dict[str, DestinationUnreachable]:
    """Return the destinations that were unreachable at the last attempt, each with its error."""
    return {destination: circuit.error for destination, circuit in list(_circuits.items())}


def record_failure(destination: str, error: DestinationUnreachable) -> None:
    """Open the circuit, for longer after each consecutive failure. Log only the first failure."""
    before = _circuits.get(destination)
    if before is None:
        ids = {"destination": destination}
        logger.error("destination %s cannot be reached, and its messages wait: %s", destination, error, extra=ids)
    failures = before.failures + 1 if before is not None else 1
    open_until = time.monotonic() + seconds_open(failures, conf.settings().outbox)
    _circuits[destination] = _Circuit(failures, open_until, error)


def record_success(destination: str) -> None:
    """Close the circuit."""
    if _circuits.pop(destination, None) is not None:
        logger.warning("destination %s can be reached again", destination, extra={"destination": destination})


def _forget(setting: str, **kwargs: object) -> None:
    if setting == "ES_DJANGO":
        _circuits.clear()


setting_changed.connect(_forget)
