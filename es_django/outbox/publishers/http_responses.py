"""Classify the responses of a webhook's receiver: they concern the message alone, or the destination."""

from collections.abc import Mapping
from datetime import UTC, datetime

from es_django.core.retry_after import parsed_date, seconds_asked
from es_django.outbox.errors import DestinationRefuses, DestinationUnreachable, PublishError

FINAL_STATUSES = frozenset({400, 405, 406, 409, 411, 412, 413, 414, 415, 422, 431, 451})
"""The statuses after which a message is not sent again, because they concern its content."""
REFUSING_STATUSES = frozenset({401, 403, 404, 407, 410})
UNAVAILABLE_STATUSES = frozenset({429, 502, 503, 504})
CLOCK_STATUSES = frozenset({400, 401})
CLOCK_TOLERANCE = 300.0
"""Standard Webhooks: receivers refuse a timestamp that differs from their clock by more than five minutes."""
LONGEST_RETRY_AFTER = 24 * 3600.0


def outcome_of(
    status: int, headers: Mapping[str, str], *, final_statuses: frozenset[int] = FINAL_STATUSES
) -> PublishError | None:
    """Return the outcome of a message for the status and headers of the response.

    | response | outcome |
    | --- | --- |
    | 2xx | None |
    | one of `final_statuses` | an error that is not retryable |
    | 401, 403, 404, 407, 410, 3xx | `DestinationRefuses` |
    | 429; 503 with `Retry-After` | `DestinationUnreachable`, certain |
    | 502, 503, 504 | `DestinationUnreachable` |
    | 400 or 401, and the clocks differ by more than five minutes | `DestinationRefuses` that names the clocks |
    | any other | a retryable error |
    """
    if 200 <= status < 300:
        return None
    reason = f"the response had status {status}"
    difference = _clock_difference(headers) if status in CLOCK_STATUSES else 0.0
    if abs(difference) > CLOCK_TOLERANCE:
        which = "behind" if difference > 0 else "ahead of"
        seconds = round(abs(difference))
        return DestinationRefuses(f"{reason}: this machine's clock is {seconds} s {which} the receiver's clock")
    if status in final_statuses:
        return PublishError(reason, retryable=False)
    if status in UNAVAILABLE_STATUSES:
        asked = seconds_asked(headers.get("retry-after", ""), headers.get("date", ""))
        is_certain = status == 429 or (status == 503 and asked is not None)
        pause = min(asked, LONGEST_RETRY_AFTER) if is_certain and asked is not None else None
        return DestinationUnreachable(reason, is_certain=is_certain, retry_after=pause)
    if status in REFUSING_STATUSES or 300 <= status < 400:
        return DestinationRefuses(reason)
    return PublishError(reason)


def _clock_difference(headers: Mapping[str, str]) -> float:
    date = parsed_date(headers.get("date", ""))
    return 0.0 if date is None else (date - datetime.now(UTC)).total_seconds()
