"""How far somebody is behind, counted within bounds."""

from datetime import timedelta
from typing import Final

import msgspec

MOST: Final = 10_000
"""What there is more of is counted as so many."""


class Lag(msgspec.Struct, frozen=True):
    """How many events or messages are waiting, at most `MOST`, and for how many seconds the oldest of them has been."""

    count: int
    seconds: float


NO_LAG: Final = Lag(0, 0.0)


def lag_of(count: int, age: timedelta | None) -> Lag:
    """The lag of so many, of which the oldest is of that age."""
    return Lag(count, max(0.0, round(age.total_seconds(), 3))) if count and age is not None else NO_LAG
