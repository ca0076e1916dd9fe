"""The port of the outbox: workers claim messages, and settle the claims.

- A claim is a lease, measured on the store's clock.
- Settling is fenced: it requires the same worker, the same attempt and an unexpired lease. A worker that was slow or
  cut off therefore cannot change a message that another worker has claimed since.
- A message is claimed with or after all earlier open messages of its destination and key, never before one. So no
  message overtakes an earlier message that fails.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence, Set
from uuid import UUID

import msgspec

from es_django.messages.message import Message
from es_django.outbox.errors import ClaimLost, PublishError
from es_django.outbox.states import Transition

BATCH_BYTES = 8 * 2**20
"""The most bytes of data in a batch. In memory, a batch takes several times as much."""


class Claim(msgspec.Struct, frozen=True):
    """A worker's right to publish a message and settle it.

    `attempts` includes this attempt. `last_error` is the error of the last attempt that failed, or empty. `search_path`
    is that of the connection that claimed, because another thread may renew the claim, and needs the same tables.
    """

    id: int
    attempts: int
    message: Message
    last_error: str = ""
    search_path: str | None = None


class Settlement(msgspec.Struct, frozen=True):
    """The result of a claim.

    | `tried` | `error` | the message |
    | --- | --- | --- |
    | True | None | was published |
    | True | an error | was not published |
    | False | None | was not handed to the publisher; no attempt is counted |
    | False | an error | was not tried for this reason, such as an unreachable destination; no attempt is counted |

    A message that is returned is due again after `delay` seconds.
    """

    claim: Claim
    error: PublishError | None = None
    tried: bool = True
    delay: float = 0.0


class OutboxStore(ABC):
    """Claims messages, renews and settles claims, and carries out the transitions that operators ask for."""

    is_concurrent = False
    """Whether two workers of one relay are faster than one: the store serves one while the other publishes."""

    @abstractmethod
    def claim(
        self, destination: str, worker: str, *, limit: int, lease: float, max_bytes: int = BATCH_BYTES
    ) -> list[Claim]:
        """Claim up to `limit` messages for `lease` seconds, in order. Skip messages that other workers hold.

        Together they have at most `max_bytes` bytes of data, except that a single message may be larger.

        1. Abandoned messages, whose worker died, come first.
        2. An abandoned message may have killed its worker. It is claimed alone after two workers died with it, and for
           its last attempt. Then no other message loses an attempt with it.

        Raise RuntimeError inside an open transaction: a message must not be published if its claim can be rolled back.
        """

    @abstractmethod
    def extend(self, worker: str, claims: Sequence[Claim], *, lease: float) -> set[int]:
        """Renew the claims that the worker still holds for `lease` seconds from now. Return their ids."""

    @abstractmethod
    def settle(self, worker: str, settlements: Sequence[Settlement]) -> list[ClaimLost | None]:
        """Store the results of a worker's claims, as `retry_policy.decide` says.

        Return `ClaimLost` for each claim that the worker no longer held, and None for the others, in the same order.
        The result of a lost claim is dropped, and its message stays unchanged.
        """

    @abstractmethod
    def change_status(self, message_ids: Iterable[UUID], transition: Transition) -> list[UUID]:
        """Carry out an operator's transition on the messages whose status is one of its origins. Return their ids."""


def lost_claims(worker: str, claims: Sequence[Claim], settled: Set[int]) -> list[ClaimLost | None]:
    """Return `ClaimLost` for each claim that was not settled, and None for the others.

    `settled` holds the ids of settled messages. If two claims are for one message, only the later one was settled.
    """
    latest = {claim.id: claim for claim in sorted(claims, key=lambda claim: claim.attempts)}
    return [
        None if claim.id in settled and latest[claim.id] is claim else ClaimLost(claim.message.message_id, worker)
        for claim in claims
    ]
