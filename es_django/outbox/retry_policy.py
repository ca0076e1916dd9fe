"""Decide whether and when a message is tried again. Every such decision of the outbox is in this module.

The functions take the limits of ES_DJANGO["OUTBOX"] as an argument. They are pure, except for random jitter.
"""

import random
from collections.abc import Iterable

import msgspec

from es_django.conf import OutboxSettings
from es_django.core.serialization import storable_text
from es_django.outbox.port import Claim, Settlement
from es_django.outbox.states import Transition

LONGEST_OPEN = 10.0
"""The longest pause before an unreachable destination is tried again, in seconds, so that delivery resumes soon."""


class Decision(msgspec.Struct, frozen=True):
    """How a settlement changes its message. `attempts` are those that count; `delay` is the seconds until a retry."""

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
    | `tried` is False                 | RETURN      | without this one |
    | the same, and not retryable      | DEAD_LETTER | without this one |
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
    """Return the ids of claims above `max_attempts`: workers died in the allowed attempts, or the limit was lowered."""
    return {claim.id for claim in claims if claim.attempts > limits.max_attempts}


def suspect_from(limits: OutboxSettings) -> int:
    """Return the attempts after which an abandoned message is suspected of killing workers, and is claimed alone."""
    return min(2, limits.max_attempts - 1)


def attempts_after_release(limits: OutboxSettings) -> int:
    """Return the highest number of used attempts that a released message keeps, so that at least one is left."""
    return limits.max_attempts - 1


def seconds_open(failures: int, limits: OutboxSettings) -> float:
    """Return for how many seconds a circuit stays open after this number of consecutive failures."""
    return min(LONGEST_OPEN, limits.backoff.after(failures))
