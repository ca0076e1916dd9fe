"""Decides whether a message is tried again, and when. Every such decision of the outbox is in this module.

The functions are pure, except for the jitter: the limits of ES_DJANGO["OUTBOX"] are an argument.
"""

import random
from collections.abc import Iterable

import msgspec

from es_django.conf import OutboxSettings
from es_django.core.serialization import storable_text
from es_django.outbox.port import Claim, Settlement
from es_django.outbox.states import Transition

LONGEST_OPEN = 10.0
"""Seconds after which an unreachable destination is tried again at the latest, so that delivery resumes soon."""


class Decision(msgspec.Struct, frozen=True):
    """How a settlement changes its message: the attempts that count, and the seconds until the next one."""

    transition: Transition
    attempts: int
    error: str = ""
    delay: float = 0.0


def decide(settlement: Settlement, limits: OutboxSettings) -> Decision:
    """Decide what happens to a message whose claim is settled.

    | result of the attempt            | transition  | attempts counted |
    | -------------------------------- | ----------- | ---------------- |
    | published                        | PUBLISH     | with this one    |
    | failed, attempts are left        | RETRY       | with this one    |
    | failed, attempts are used up     | DEAD_LETTER | with this one    |
    | failed and is not retryable      | DEAD_LETTER | with this one    |
    | not tried                        | RETURN      | without this one |
    | not tried, and never will be     | DEAD_LETTER | without this one |
    """
    error = settlement.error
    text = "" if error is None else storable_text(str(error))
    attempts = settlement.claim.attempts if settlement.tried else settlement.claim.attempts - 1
    if not settlement.tried and (error is None or error.retryable):
        return Decision(Transition.RETURN, attempts, text)
    if error is None:
        return Decision(Transition.PUBLISH, attempts)
    if not error.retryable or attempts >= limits.max_attempts:
        return Decision(Transition.DEAD_LETTER, attempts, text)
    longest = limits.backoff.after(attempts)
    return Decision(Transition.RETRY, attempts, text, random.uniform(longest / 2, longest))  # noqa: S311


def exhausted(claims: Iterable[Claim], limits: OutboxSettings) -> set[int]:
    """The ids of claims that are one attempt too many: workers died in the allowed ones, or the limit was lowered."""
    return {claim.id for claim in claims if claim.attempts > limits.max_attempts}


def suspect_from(limits: OutboxSettings) -> int:
    """The number of attempts from which on an abandoned message is suspected to kill workers, and is claimed alone."""
    return min(2, limits.max_attempts - 1)


def attempts_after_release(limits: OutboxSettings) -> int:
    """The highest number of attempts that a released message keeps, so that it has at least one left."""
    return limits.max_attempts - 1


def seconds_open(failures: int, limits: OutboxSettings) -> float:
    """For how long a circuit stays open after so many failures in a row."""
    return min(LONGEST_OPEN, limits.backoff.after(failures))
