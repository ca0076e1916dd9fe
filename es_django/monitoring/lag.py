"""The lag of a reader of the log, counted up to a limit."""

from datetime import timedelta
from typing import Final

import msgspec

MOST: Final = 10_000
"""Counting stops at this number, so that a long queue does not make counting slow."""


class Lag(msgspec.Struct, frozen=True):
    """The number of waiting events, at most `MOST`, and the seconds for which the oldest event has been waiting."""

    count: int
    seconds: float


NO_LAG: Final = Lag(0, 0.0)


def seconds_of(age: timedelta) -> float:
    """Return an age in seconds, rounded to milliseconds. If clocks disagree and the age is negative, return 0."""
    return max(0.0, round(age.total_seconds(), 3))
