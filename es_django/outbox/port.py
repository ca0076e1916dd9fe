"""The port of the outbox: claims on messages, and their settling.

A claim is a lease on the store's clock. Settling is fenced on worker, attempt and live lease, so that a worker that was
slow or cut off can change nothing that another has taken over. Of one destination and key, a message is claimed only
together with, or after, all earlier open ones; otherwise a failing message would be overtaken.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence, Set
from uuid import UUID

import msgspec

from es_django import conf
from es_django.core.serialization import storable_text
from es_django.messages.message import Message
from es_django.outbox.errors import ClaimLost, PublishError
from es_django.outbox.states import Transition


class Claim(msgspec.Struct, frozen=True):
    """A worker's right to publish a message and settle it; `attempts` counts this one, and
    `last_error` is that of an earlier one."""

    id: int
    attempts: int
    message: Message
    last_error: str = ""


class Settlement(msgspec.Struct, frozen=True):
    """What became of a claim: published; or an error, to be tried again or not; or handed back untried, with the reason
    as the error where there is one."""

    claim: Claim
    error: PublishError | None = None
    tried: bool = True


class Verdict(msgspec.Struct, frozen=True):
    """What a settlement does to its message, with the attempts that count and the seconds until the next one."""

    transition: Transition
    attempts: int
    error: str = ""
    delay: float = 0.0


class OutboxStore(ABC):
    """Claims messages, renews and settles the claims, and carries out the transitions that operators ask for."""

    is_concurrent = False
    """Whether it works for one relay while another one publishes, so that two are faster than one."""

    @abstractmethod
    def claim(self, destination: str, worker: str, *, limit: int, lease: float) -> list[Claim]:
        """Claims up to `limit` messages for `lease` seconds, in order; those that others hold are passed over.

        Those whose worker has died come first. One of which that is true again, or that has only one attempt left,
        comes alone: it may be what killed them, and would take the others with it once more.
        Raises RuntimeError inside an open transaction, since nobody may publish what could still be rolled back.
        """

    @abstractmethod
    def extend(self, worker: str, claims: Sequence[Claim], *, lease: float) -> set[int]:
        """Renews claims for `lease` seconds from now, and returns the ids of those that were still the worker's."""

    @abstractmethod
    def settle(self, worker: str, settlements: Sequence[Settlement]) -> list[ClaimLost | None]:
        """Writes down what became of a worker's claims, and returns an outcome for each: None, or `ClaimLost` for one
        that was no longer its own, to which nothing was done.

        A failed message is tried again after a growing, jittered pause; a permanent failure, or the last attempt,
        makes it dead. One that was not tried goes back as it was.
        """

    @abstractmethod
    def change_status(self, message_ids: Iterable[UUID], transition: Transition) -> list[UUID]:
        """Carry out an operator's transition. Return the ids of the messages whose status was one of its origins."""


def verdict(settlement: Settlement) -> Verdict:
    """What a settlement does to its message, by the limits of ES_DJANGO["OUTBOX"]."""
    error = settlement.error
    text = "" if error is None else storable_text(str(error))
    attempts = settlement.claim.attempts if settlement.tried else settlement.claim.attempts - 1
    if not settlement.tried and (error is None or error.retryable):
        return Verdict(Transition.RETURN, attempts, text)
    if error is None:
        return Verdict(Transition.PUBLISH, attempts)
    limits = conf.settings().outbox
    if not error.retryable or attempts >= limits.max_attempts:
        return Verdict(Transition.DEAD_LETTER, attempts, text)
    longest = limits.backoff.after(attempts)
    return Verdict(Transition.RETRY, attempts, text, random.uniform(longest / 2, longest))  # noqa: S311


def suspect_from() -> int:
    """The attempts from which on a message whose worker has died comes alone."""
    return min(2, conf.settings().outbox.max_attempts - 1)


def outcomes_of(worker: str, claims: Sequence[Claim], settled: Set[int]) -> list[ClaimLost | None]:
    """The outcome of each claim, when the messages of these ids were settled: by the latest claim, if there are two."""
    latest = {claim.id: claim for claim in sorted(claims, key=lambda claim: claim.attempts)}
    return [
        None if claim.id in settled and latest[claim.id] is claim else ClaimLost(claim.message.message_id, worker)
        for claim in claims
    ]
