"""Times in seconds, as callers give them."""

from typing import Final

LONGEST: Final = 2**31 // 1000
"""What PostgreSQL can wait: it counts milliseconds in 31 bits. About 24 days."""


def require_seconds(name: str, value: object) -> None:
    """Raises `ValueError` for what is no time from 0 to `LONGEST`, such as NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST:
        raise ValueError(f"{name} is a number of seconds from 0 to {LONGEST}, not {value!r}")


def is_position(value: object) -> bool:
    """Whether it counts versions or positions: neither a truth value nor more than the databases can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def require_position(**values: object) -> None:
    for name, value in values.items():
        if not is_position(value):
            raise ValueError(f"{name} is a number from 0 on, not {value!r}")


def require_many(name: str, values: object, *kinds: type) -> None:
    """Raises `TypeError` for one of a kind where several are meant."""
    if isinstance(values, kinds):
        raise TypeError(f"{name} are several, in a list, not one {type(values).__name__} alone")
