"""Read the HTTP headers `Retry-After` and `Date`."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def seconds_asked(retry_after: str, date: str = "") -> float | None:
    """Return the seconds for which a response asks the client to wait, or None if its `Retry-After` is unreadable.

    The header is a number of seconds, or a time on the server's clock. `date` is the server's time; by default, the
    time of this host.
    """
    value = retry_after.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    until = parsed_date(value)
    if until is None:
        return None
    now = parsed_date(date) or datetime.now(UTC)
    return max((until - now).total_seconds(), 0.0)


def parsed_date(value: str) -> datetime | None:
    """Return the time of an HTTP date, or None if it is unreadable."""
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
