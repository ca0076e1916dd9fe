"""The outbox in PostgreSQL or SQLite. One statement claims a batch, and one settles it. Times are the database's."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import msgspec
from django.db import connections, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import F
from django.db.models.functions import Least, Now

from es_django import conf
from es_django.core.streams import StreamId
from es_django.messages.message import Message
from es_django.models import OutboxMessage
from es_django.outbox.errors import ClaimLost
from es_django.outbox.port import BATCH_BYTES, Claim, OutboxStore, Settlement, lost_claims
from es_django.outbox.retry_policy import Decision, attempts_after_release, decide, suspect_from
from es_django.outbox.sql import postgresql, sqlite
from es_django.outbox.states import Transition
from es_django.store.error_translation import storage_errors
from es_django.store.search_path import acts_on_cursors


class DatabaseOutbox(OutboxStore):
    """The outbox in one database."""

    def __init__(self, using: str) -> None:
        self.using = using
        vendor = connections[using].vendor
        self._sql = {"postgresql": postgresql, "sqlite": sqlite}[vendor]
        # The second thread of a relay has a connection of its own. A backend that chooses the schema for each cursor
        # would choose another one there.
        self.is_concurrent: bool = vendor == "postgresql" and not acts_on_cursors(connections[using])

    def claim(
        self, destination: str, worker: str, *, limit: int, lease: float, max_bytes: int = BATCH_BYTES
    ) -> list[Claim]:
        if limit < 1:
            return []
        with self._transaction("claim messages") as cursor:
            cursor.execute(
                self._sql.CLAIM,
                {
                    "destination": destination,
                    "worker": worker,
                    "limit": limit,
                    "max_bytes": max_bytes,
                    "lease": lease,
                    "suspect_from": suspect_from(conf.settings().outbox_of(destination)),
                },
            )
            return sorted((_claim(destination, row) for row in cursor.fetchall()), key=lambda claim: claim.id)

    def extend(self, worker: str, claims: Sequence[Claim], *, lease: float) -> set[int]:
        rows = [{"id": claim.id, "attempts": claim.attempts} for claim in claims]
        with self._transaction("renew claims") as cursor:
            if claims and (path := claims[0].search_path) is not None:
                cursor.execute("SELECT set_config('search_path', %s, true)", [path])
            cursor.execute(self._sql.EXTEND, {"worker": worker, "claims": json.dumps(rows), "lease": lease})
            return {id for (id,) in cursor.fetchall()}

    def settle(self, worker: str, settlements: Sequence[Settlement]) -> list[ClaimLost | None]:
        if not settlements:
            return []
        limits = conf.settings().outbox_of(settlements[0].claim.message.destination)
        rows = [_settlement_row(settlement.claim, decide(settlement, limits)) for settlement in settlements]
        with self._transaction("settle messages") as cursor:
            cursor.execute(self._sql.SETTLE, {"worker": worker, "settlements": json.dumps(rows)})
            settled = {id for (id,) in cursor.fetchall()}
        return lost_claims(worker, [settlement.claim for settlement in settlements], settled)

    def change_status(self, message_ids: Iterable[UUID], transition: Transition) -> list[UUID]:
        messages = OutboxMessage.objects.using(self.using)
        wanted = messages.filter(message_id__in=list(message_ids), status__in=transition.origins).order_by("id")
        with (
            storage_errors("change the status of messages", connections[self.using]),
            transaction.atomic(using=self.using),
        ):
            found = list(wanted.select_for_update(no_key=True).values_list("id", "message_id", "destination"))
            for destination in sorted({destination for _, _, destination in found}):
                ids = [id for id, _, its_destination in found if its_destination == destination]
                messages.filter(id__in=ids).update(status=transition.target, **_changes(transition, destination))
        return [message_id for _, message_id, _ in found]

    @contextmanager
    def _transaction(self, operation: str) -> Iterator[CursorWrapper]:
        # `durable` refuses to run inside another transaction. If that one rolled back a claim, its message could be
        # published twice.
        with (
            storage_errors(operation, connections[self.using]),
            transaction.atomic(using=self.using, durable=True),
            connections[self.using].cursor() as cursor,
        ):
            yield cursor


def _changes(transition: Transition, destination: str) -> dict[str, Any]:
    changes: dict[Transition, dict[str, Any]] = {
        Transition.REQUEUE: {"attempts": 0, "failed_at": None, "available_at": Now()},
        Transition.RELEASE: {
            "attempts": Least(F("attempts"), attempts_after_release(conf.settings().outbox_of(destination))),
            "claimed_by": None,
            "claimed_until": None,
            "available_at": Now(),
        },
        Transition.DISCARD: {"failed_at": Now()},
    }
    return changes[transition]


def _claim(destination: str, row: tuple[Any, ...]) -> Claim:
    id, attempts, message_id, type, key, data, headers, category, stream_key, stream_version, last_error, path = row
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
    return Claim(id, attempts, message, last_error, path)


def _settlement_row(claim: Claim, decision: Decision) -> dict[str, Any]:
    return {
        "id": claim.id,
        "attempts": claim.attempts,
        "counted": decision.attempts,
        "status": decision.transition.target,
        "error": decision.error,
        "delay": decision.delay,
    }
