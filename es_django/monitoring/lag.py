"""How far a reader is behind, counted up to a bound."""

from datetime import timedelta
from typing import Final

import msgspec

MOST: Final = 10_000
"""Counting stops at this number, so that a long queue does not make it slow."""


class Lag(msgspec.Struct, frozen=True):
    """How many events are waiting, at most `MOST`, and for how many seconds the oldest one has been waiting."""

    count: int
    seconds: float


NO_LAG: Final = Lag(0, 0.0)


def seconds_of(age: timedelta) -> float:
    """An age in seconds, to the millisecond. It is not negative, even if clocks disagree."""
    return max(0.0, round(age.total_seconds(), 3))
