"""Decide whether and when a message is tried again. Every such decision of the outbox is in this module.

The functions take the limits of ES_DJANGO["OUTBOX"] as an argument. They are pure, except for random jitter.
"""

import random
from collections.abc import Iterable, Sequence

import msgspec

from es_django.conf import OutboxSettings
from es_django.core.serialization import storable_text
from es_django.outbox.errors import DestinationRefuses, DestinationUnreachable, PublishError
from es_django.outbox.port import Claim, Settlement
from es_django.outbox.states import Transition

LONGEST_OPEN = 10.0
"""The longest pause before an unreachable destination is tried again, in seconds, so that delivery resumes soon."""

MANY = 5
"""How many messages a destination must refuse in one call, and accept none, so that the refusal concerns them all."""


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
        return Decision(Transition.RETURN, attempts, text, settlement.delay)
    if error is None:
        return Decision(Transition.PUBLISH, attempts)
    if not error.retryable or attempts >= limits.max_attempts:
        return Decision(Transition.DEAD_LETTER, attempts, text)
    longest = limits.backoff.after(attempts)
    return Decision(Transition.RETRY, attempts, text, random.uniform(longest / 2, longest))  # noqa: S311


def outage(outcomes: Sequence[PublishError | None], *, is_probe: bool = False) -> PublishError | None:
    """Return the error of an outage, if the outcomes of one call show that the destination accepts no message.

    | outcomes of the call                                       | an outage? |
    | ---------------------------------------------------------- | ---------- |
    | any is `DestinationUnreachable` with `is_certain`          | yes        |
    | all are `DestinationUnreachable`                           | yes        |
    | all are that or `DestinationRefuses`, of `MANY` messages   | yes        |
    | the same, and the call was the first after an outage       | yes        |
    | otherwise                                                  | no         |
    """
    unreachable = [error for error in outcomes if isinstance(error, DestinationUnreachable)]
    for error in unreachable:
        if error.is_certain:
            return error
    concerned = [error for error in outcomes if is_about_destination(error)]
    if not concerned or len(concerned) < len(outcomes):
        return None
    is_outage = is_probe or len(concerned) >= MANY or len(unreachable) == len(outcomes)
    return concerned[0] if is_outage else None


def is_about_destination(error: PublishError | None) -> bool:
    """Return whether an outcome is a kind of error that can concern all messages of the destination."""
    return isinstance(error, DestinationUnreachable | DestinationRefuses)


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
