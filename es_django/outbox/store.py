"""Claims on outbox messages, and their settling.

A claim is a lease on the database's clock. Settling is fenced on worker, attempt and live lease, so that a worker
that was slow or cut off can change nothing that another has taken over. Of one destination and key, a message is
claimed only together with, or after, all earlier open ones; otherwise a failing message would be overtaken.
"""

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from uuid import UUID

import msgspec
from django.db import connections, transaction
from django.db.backends.utils import CursorWrapper

from es_django import conf
from es_django.errors import PublishError
from es_django.events import StreamId
from es_django.outbox import postgresql, sqlite
from es_django.payloads import storable_text
from es_django.store.failures import storage_errors
from es_django.store.messages import Message

CLAIM_NAMESPACE = 0x636C


class Claim(msgspec.Struct, frozen=True):
    """A worker's right to publish a message and settle it."""

    id: int
    attempts: int
    message: Message


class Settlement(msgspec.Struct, frozen=True):
    """What became of a claim: published; or an error, to be tried again or not; or handed back untried."""

    claim: Claim
    error: PublishError | None = None
    tried: bool = True


class OutboxStore:
    """The outbox in one database."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._sql = {"postgresql": postgresql, "sqlite": sqlite}[connections[using].vendor]

    def claim(self, destination: str, worker: str, *, limit: int, lease: float) -> list[Claim]:
        """Claims up to `limit` messages for `lease` seconds, in order; those that others hold are passed over."""
        if limit < 1:
            return []
        with self._transaction("claim messages") as cursor:
            if self._sql.LOCK_DESTINATION:
                cursor.execute(self._sql.LOCK_DESTINATION, [CLAIM_NAMESPACE, destination])
            cursor.execute(
                self._sql.CLAIM, {"destination": destination, "worker": worker, "limit": limit, "lease": lease}
            )
            return sorted((_claim(destination, row) for row in cursor.fetchall()), key=lambda claim: claim.id)

    def extend(self, destination: str, worker: str, *, lease: float) -> int:
        """Renews all claims of a worker that are still its own, from now on, and returns how many those are."""
        with self._transaction("renew claims") as cursor:
            cursor.execute(self._sql.EXTEND, {"destination": destination, "worker": worker, "lease": lease})
            return int(cursor.rowcount)

    def settle(self, worker: str, settlements: Sequence[Settlement]) -> list[Claim]:
        """Writes down what became of a worker's claims, and returns those that were no longer its own.

        A failed message is tried again after a growing, jittered pause; a permanent failure, or the last attempt,
        makes it dead. One that was not tried goes back as it was.
        """
        if not settlements:
            return []
        rows = [_settlement_row(settlement) for settlement in settlements]
        with self._transaction("settle messages") as cursor:
            cursor.execute(self._sql.SETTLE, {"worker": worker, "settlements": json.dumps(rows)})
            settled = {id for (id,) in cursor.fetchall()}
        return [settlement.claim for settlement in settlements if settlement.claim.id not in settled]

    @contextmanager
    def _transaction(self, operation: str) -> Iterator[CursorWrapper]:
        # Durable: nobody may go on to publish inside a transaction that could still be rolled back.
        with (
            storage_errors(operation),
            transaction.atomic(using=self.using, durable=True),
            connections[self.using].cursor() as cursor,
        ):
            yield cursor


def outbox_store(using: str | None = None) -> OutboxStore:
    """The outbox in the database `using`; in ES_DJANGO["DATABASE"] where it is None."""
    return _store(using or conf.settings().database)


_store = cache(OutboxStore)


def _claim(destination: str, row: tuple[Any, ...]) -> Claim:
    id, attempts, message_id, type, key, data, headers, category, stream_key, stream_version = row
    message = Message(
        message_id=message_id if isinstance(message_id, UUID) else UUID(message_id),
        destination=destination,
        type=type,
        key=key,
        data=msgspec.json.decode(data),
        headers=msgspec.json.decode(headers),
        stream=StreamId(category, stream_key) if category is not None else None,
        stream_version=stream_version,
    )
    return Claim(id, attempts, message)


def _settlement_row(settlement: Settlement) -> dict[str, Any]:
    claim, error = settlement.claim, settlement.error
    row: dict[str, Any] = {"id": claim.id, "attempts": claim.attempts, "error": "", "delay": 0.0}
    if not settlement.tried:
        return {**row, "status": "pending", "counted": claim.attempts - 1}
    row["counted"] = claim.attempts
    if error is None:
        return {**row, "status": "published"}
    limits = conf.settings().outbox
    if not error.retryable or claim.attempts >= limits.max_attempts:
        return {**row, "status": "dead", "error": storable_text(str(error))}
    longest = limits.backoff.after(claim.attempts)
    delay = random.uniform(longest / 2, longest)  # noqa: S311
    return {**row, "status": "pending", "error": storable_text(str(error)), "delay": delay}
