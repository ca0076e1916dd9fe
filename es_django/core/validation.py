"""Checks of arguments and options: seconds, positions, counts, lists and operators."""

from collections.abc import Callable
from typing import Final

from es_django.core.streams import require_name

MAX_SECONDS: Final = 2**31 // 1000
"""About 24 days: PostgreSQL counts timeouts in milliseconds, as 32-bit integers."""


def require_seconds(name: str, value: object) -> None:
    """Raise `ValueError` unless `value` is a number from 0 to `MAX_SECONDS`. NaN raises the error too."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS:
        raise ValueError(f"{name} must be a number of seconds from 0 to {MAX_SECONDS}, got {value!r}")


def is_position(value: object) -> bool:
    """Return whether `value` can be a version or a position: an integer (not a bool) from 0 to the bigint maximum."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def require_position(**values: object) -> None:
    """Raise `ValueError` with the name of the first value that is not a position."""
    for name, value in values.items():
        if not is_position(value):
            raise ValueError(f"{name} must be an integer of at least 0, got {value!r}")


def require_count(subject: str, value: object, error: Callable[[str], Exception]) -> None:
    """Raise `error` with a message that begins with `subject` unless `value` is an integer of at least 1."""
    if not is_position(value) or value == 0:
        raise error(f"{subject} must be an integer of at least 1, got {value!r}")


def require_many(name: str, values: object, *kinds: type) -> None:
    """Raise `TypeError` if `values` is a single instance of one of the `kinds` instead of a list."""
    if isinstance(values, kinds):
        raise TypeError(f"{name} must be a list, got a single {type(values).__name__}")


def require_operator(by: object) -> None:
    """Raise `ValueError` unless `by` names the operator who asked for a change."""
    require_name("by, the name of the operator,", by, ValueError)
