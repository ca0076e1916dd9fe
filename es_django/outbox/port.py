"""The port of the outbox: workers claim messages, and settle the claims.

- A claim is a lease, measured on the store's clock.
- Settling is fenced: it needs the same worker, the same attempt and a live lease. So a worker that was slow or cut off
  cannot change a message that another worker has claimed since.
- A message is claimed only together with, or after, all earlier open messages of its destination and key. So no message
  overtakes an earlier one that fails.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence, Set
from uuid import UUID

import msgspec

from es_django.messages.message import Message
from es_django.outbox.errors import ClaimLost, PublishError
from es_django.outbox.states import Transition


class Claim(msgspec.Struct, frozen=True):
    """A worker's right to publish a message and settle it.

    `attempts` includes this attempt; `last_error` is the error of an earlier one.
    """

    id: int
    attempts: int
    message: Message
    last_error: str = ""


class Settlement(msgspec.Struct, frozen=True):
    """The result of a claim: published if `error` is None.

    With `tried=False` no attempt is counted: the publisher did not get the message, or its destination was unreachable.
    `error` is the reason, if there is one.
    """

    claim: Claim
    error: PublishError | None = None
    tried: bool = True


class OutboxStore(ABC):
    """Claims messages, renews and settles claims, and carries out the transitions that operators ask for."""

    is_concurrent = False
    """Whether the store serves one worker while another one publishes, so that two workers are faster than one."""

    @abstractmethod
    def claim(self, destination: str, worker: str, *, limit: int, lease: float) -> list[Claim]:
        """Claim up to `limit` messages for `lease` seconds, in order, except those that other workers hold.

        1. Abandoned messages come first: their worker died.
        2. A message may be what killed its worker. It is claimed alone after two workers died with it, and for its last
           attempt. Then no other message loses an attempt with it.

        Raises RuntimeError inside an open transaction: a message must not be published if its claim can be rolled back.
        """

    @abstractmethod
    def extend(self, worker: str, claims: Sequence[Claim], *, lease: float) -> set[int]:
        """Renew claims for `lease` seconds from now. Return the ids of the claims that the worker still held."""

    @abstractmethod
    def settle(self, worker: str, settlements: Sequence[Settlement]) -> list[ClaimLost | None]:
        """Store the results of a worker's claims, as `retry_policy.decide` says.

        Returns `ClaimLost` for each claim that the worker no longer held, and None for the others, in the same order.
        A lost claim changes nothing.
        """

    @abstractmethod
    def change_status(self, message_ids: Iterable[UUID], transition: Transition) -> list[UUID]:
        """Carry out an operator's transition. Return the ids of the messages whose status was one of its origins."""


def lost_claims(worker: str, claims: Sequence[Claim], settled: Set[int]) -> list[ClaimLost | None]:
    """`ClaimLost` for each claim that was not settled. If a message has two claims, only the later one was settled."""
    latest = {claim.id: claim for claim in sorted(claims, key=lambda claim: claim.attempts)}
    return [
        None if claim.id in settled and latest[claim.id] is claim else ClaimLost(claim.message.message_id, worker)
        for claim in claims
    ]
