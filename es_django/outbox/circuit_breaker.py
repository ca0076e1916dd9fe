"""Circuit breakers: while a destination is unreachable, its messages wait and lose no attempts.

Each process has its own circuit breakers, because one process may reach a destination that another cannot reach.
"""

import time
from typing import NamedTuple

from django.core.signals import setting_changed

from es_django import conf
from es_django.core.logs import Log
from es_django.outbox.errors import DestinationUnreachable, PublishError
from es_django.outbox.retry_policy import seconds_open

logger: Log = Log("es_django.outbox")

SAME_PROBE = 10
"""The consecutive failures of a destination from which on each probe takes another message."""


class _Circuit(NamedTuple):
    failures: int
    open_until: float
    error: PublishError


_circuits: dict[str, _Circuit] = {}


def is_open(destination: str) -> bool:
    """Return whether it is too early to try the destination again."""
    circuit = _circuits.get(destination)
    return circuit is not None and time.monotonic() < circuit.open_until


def is_probing(destination: str) -> bool:
    """Return whether the next message only tests if the destination accepts messages again."""
    return destination in _circuits


def pause_of_probe(destination: str) -> float:
    """Return the seconds for which the message of a failed probe waits, so that the next probe takes another message.

    Without this pause, a message that fails alone could stop the others for ever. It is 0 for the first failures,
    because most outages are short and concern all messages.
    """
    circuit = _circuits.get(destination)
    if circuit is None or circuit.failures < SAME_PROBE:
        return 0.0
    return max(0.0, 1.5 * (circuit.open_until - time.monotonic()))


def unreachable_destinations() -> dict[str, PublishError]:
    """Return the destinations that were unreachable at the last attempt, each with its error."""
    return {destination: circuit.error for destination, circuit in list(_circuits.items())}


def record_failure(destination: str, error: PublishError) -> None:
    """Open the circuit, for longer after each consecutive failure. Log only the first failure."""
    before = _circuits.get(destination)
    if before is None:
        ids = {"destination": destination}
        message = "destination %s accepts no messages, and they wait: %s"
        logger.error(message, destination, error, exc_info=error, extra=ids)
    failures = before.failures + 1 if before is not None else 1
    seconds = seconds_open(failures, conf.settings().outbox_of(destination))
    if isinstance(error, DestinationUnreachable) and error.retry_after is not None:
        seconds = max(seconds, error.retry_after)
    open_until = time.monotonic() + seconds
    _circuits[destination] = _Circuit(failures, open_until, error)


def record_success(destination: str) -> None:
    """Close the circuit."""
    if _circuits.pop(destination, None) is not None:
        logger.warning("destination %s accepts messages again", destination, extra={"destination": destination})


def _forget(setting: str, **kwargs: object) -> None:
    if setting == "ES_DJANGO":
        _circuits.clear()


setting_changed.connect(_forget)
