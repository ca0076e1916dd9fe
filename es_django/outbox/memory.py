"""The outbox of the event store in memory, for tests: the shortest complete implementation of the port."""

import sys
import threading
import time
from collections.abc import Iterable, Sequence
from uuid import UUID
from weakref import WeakKeyDictionary, proxy

import msgspec

from es_django import conf
from es_django.messages.message import Message
from es_django.outbox.errors import ClaimLost
from es_django.outbox.port import BATCH_BYTES, Claim, OutboxStore, Settlement, lost_claims
from es_django.outbox.retry_policy import attempts_after_release, decide, suspect_from
from es_django.outbox.states import OPEN, Status, Transition
from es_django.store.memory import MemoryEventStore


class Row(msgspec.Struct):
    """A message and its status. Times are in seconds on the monotonic clock."""

    id: int
    message: Message
    available_at: float
    status: Status = Status.PENDING
    attempts: int = 0
    claimed_by: str | None = None
    claimed_until: float = 0.0
    last_error: str = ""

    def is_due(self, now: float) -> bool:
        if self.status is Status.PENDING:
            return self.available_at <= now
        return self.claimed_until <= now


class MemoryOutbox(OutboxStore):
    """The outbox of one event store in memory. `rows` holds every committed message with its status."""

    def __init__(self, store: MemoryEventStore) -> None:
        self._store = proxy(store)
        self._rows: list[Row] = []
        self._lock = threading.RLock()

    @property
    def rows(self) -> list[Row]:
        with self._lock:
            sent = self._store.committed_messages()
            for message, sent_at in sent[len(self._rows) :]:
                self._rows.append(Row(len(self._rows) + 1, message, sent_at + message.delay_seconds))
            return list(self._rows)

    def claim(
        self, destination: str, worker: str, *, limit: int, lease: float, max_bytes: int = BATCH_BYTES
    ) -> list[Claim]:
        if self._store.in_transaction:
            raise RuntimeError("messages cannot be claimed inside a transaction: claim them after it has ended")
        with self._lock:
            claims: list[Claim] = []
            left = max_bytes
            for row in self._batch(destination, limit, time.monotonic()):
                left -= len(msgspec.json.encode(row.message.data))
                if left < 0 and claims:
                    break
                row.status, row.claimed_by = Transition.CLAIM.target, worker
                row.attempts += 1
                row.claimed_until = time.monotonic() + lease
                claims.append(Claim(row.id, row.attempts, row.message, row.last_error))
            return claims

    def _batch(self, destination: str, limit: int, now: float) -> list[Row]:
        open_rows = [row for row in self.rows if row.message.destination == destination and row.status in OPEN]

        def claimable(status: Status, attempts: range) -> list[Row]:
            """Return the due messages of this status, except later ones of a key whose open message is left out."""
            taken: list[Row] = []
            held_back: set[str] = set()
            for row in open_rows:
                key = row.message.key
                if row.status is status and row.is_due(now) and row.attempts in attempts and key not in held_back:
                    taken.append(row)
                elif key is not None:
                    held_back.add(key)
            return taken

        first_suspect = suspect_from(conf.settings().outbox_of(destination))
        suspects = claimable(Status.CLAIMED, range(first_suspect, sys.maxsize))
        abandoned = claimable(Status.CLAIMED, range(first_suspect))
        due = claimable(Status.PENDING, range(sys.maxsize))
        return (suspects[:1] or abandoned or due)[:limit]

    def extend(self, worker: str, claims: Sequence[Claim], *, lease: float) -> set[int]:
        with self._lock:
            held = {claim.id for claim in claims if self._is_held(worker, claim)}
            for id in held:
                self._rows[id - 1].claimed_until = time.monotonic() + lease
            return held

    def settle(self, worker: str, settlements: Sequence[Settlement]) -> list[ClaimLost | None]:
        with self._lock:
            settled: set[int] = set()
            for settlement in settlements:
                if self._is_held(worker, settlement.claim):
                    limits = conf.settings().outbox_of(settlement.claim.message.destination)
                    decision, row = decide(settlement, limits), self._rows[settlement.claim.id - 1]
                    row.status, row.attempts = decision.transition.target, decision.attempts
                    row.claimed_by = None
                    row.last_error = decision.error or row.last_error
                    if decision.delay:
                        row.available_at = time.monotonic() + decision.delay
                    settled.add(row.id)
            return lost_claims(worker, [settlement.claim for settlement in settlements], settled)

    def _is_held(self, worker: str, claim: Claim) -> bool:
        row = self._rows[claim.id - 1]
        is_its_own = row.status is Status.CLAIMED and row.claimed_by == worker and row.attempts == claim.attempts
        return is_its_own and row.claimed_until > time.monotonic()

    def change_status(self, message_ids: Iterable[UUID], transition: Transition) -> list[UUID]:
        with self._lock:
            wanted = set(message_ids)
            found = [row for row in self.rows if row.message.message_id in wanted and row.status in transition.origins]
            for row in found:
                row.status, row.claimed_by = transition.target, None
                if transition is Transition.REQUEUE:
                    row.attempts = 0
                if transition is Transition.RELEASE:
                    limits = conf.settings().outbox_of(row.message.destination)
                    row.attempts = min(row.attempts, attempts_after_release(limits))
                if row.status is Status.PENDING:
                    row.available_at = time.monotonic()
            return [row.message.message_id for row in found]


_outboxes: "WeakKeyDictionary[MemoryEventStore, MemoryOutbox]" = WeakKeyDictionary()


def memory_outbox(store: MemoryEventStore) -> MemoryOutbox:
    """Return the outbox of an event store in memory."""
    return _outboxes.setdefault(store, MemoryOutbox(store))
