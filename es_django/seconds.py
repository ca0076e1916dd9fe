"""Times in seconds, as callers give them."""

from typing import Final

LONGEST: Final = 2**31 // 1000
"""What PostgreSQL can wait: it counts milliseconds in 31 bits. About 24 days."""


def refuse_no_seconds(name: str, value: object) -> None:
    """Raises `ValueError` for what is no time from 0 to `LONGEST`, such as NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST:
        raise ValueError(f"{name} is a number of seconds from 0 to {LONGEST}, not {value!r}")
