"""Attempts of consumers to handle a message that a broker has delivered.

An attempt is in the database before its handler runs. From then on the receipt keeps the message, so it does not matter
what ends the handler, and whether the broker delivers the message again:

- A handler that is alive holds the lock of its receipt, in the transaction of its effects.
- A receipt with the status `handling` that is not locked after its lease belongs to a handler that was lost.
- The number of the attempt fences the receipt. An attempt that was taken for lost can neither run nor settle.
"""

import json
from datetime import timedelta

import msgspec
from django.db import connections, transaction
from django.db.models import Case, QuerySet, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from es_django import conf
from es_django.inbox.handlers import HandlerFunction
from es_django.inbox.receipts import (
    Outcome,
    has_other_content,
    keep_conflict,
    outcome_of_status,
    run_handler,
    storable_content,
)
from es_django.messages.fingerprint import fingerprint_of
from es_django.messages.message import Message
from es_django.models import InboxReceipt
from es_django.store.commit_tracking import tracked_atomic
from es_django.store.error_translation import storage_errors
from es_django.store.sqlite.sql import seconds_from_now

LEASE = 10
"""Seconds between the begin of an attempt and the begin of its handler's transaction, after which it counts as lost."""

# As INSERT_RECEIPT in `receipts`.
_BEGIN = """
INSERT INTO es_django_inboxreceipt
       (consumer, message_id, fingerprint, status, attempts, last_error, message, route, retry_at, handled_at)
SELECT %s, %s, %s, 'handling', 1, '', {json}, {json}, {lease_end}, CURRENT_TIMESTAMP
 WHERE NOT EXISTS (SELECT 1 FROM es_django_inboxreceipt
                    WHERE message_id = %s AND conflict = '' AND fingerprint NOT IN ('', %s))
    ON CONFLICT (message_id, consumer, conflict) DO NOTHING
"""
_LEASE_END = "statement_timestamp() + make_interval(secs => %s)"
_BEGIN_ON = {
    "postgresql": _BEGIN.format(json="CAST(%s AS jsonb)", lease_end=_LEASE_END),
    "sqlite": _BEGIN.format(json="%s", lease_end=seconds_from_now("%s")),
}


class Attempt(msgspec.Struct, frozen=True):
    consumer: str
    message_id: str
    number: int


def begin(
    consumer: str, message: Message, delivered: object, route: object, *, after: int | None = None
) -> Attempt | Outcome:
    """Begin an attempt and commit it, or return the reason why no attempt begins.

    | receipt | result |
    | --- | --- |
    | none | the first attempt |
    | `retrying`, its time has come, or `after` so many attempts | the next attempt |
    | `retrying`, otherwise | POSTPONED |
    | `handling` | POSTPONED: another process handles the message, or was lost, which `retries` finds out |
    | `handled`, `dead` | REPEATED, DEAD |
    | of any consumer, with other content | CONFLICT: this content is kept as dead |

    The receipt keeps the content that was `delivered`. `route` says where a retry of the delivery is sent. A retry that
    `retries` has sent carries the number of attempts until then, so that a second copy of it begins nothing.

    Raise `StorageError` if the database fails.
    """
    using = conf.settings().database
    connection, message_id, content = connections[using], str(message.message_id), fingerprint_of(message)
    with storage_errors("begin an attempt", connection):
        with connection.cursor() as cursor:
            texts = json.dumps(storable_content(delivered)), json.dumps(route)
            values: list[str | int] = [consumer, message_id, content, *texts, LEASE, message_id, content]
            cursor.execute(_BEGIN_ON[connection.vendor], values)
            if cursor.rowcount == 1:
                return Attempt(consumer, message_id, 1)
        if has_other_content(message_id, content):
            return keep_conflict(consumer, message_id, content, delivered)
        with transaction.atomic(using=using):
            receipts = _receipts(consumer, message_id)
            free = receipts.select_for_update(skip_locked=True)
            is_due = Case(When(retry_at__lte=Now(), then=Value(True)), default=Value(False))
            found = free.annotate(is_due=is_due).values_list("status", "attempts", "is_due").first()
            if found is None:
                return Outcome.POSTPONED
            status, attempts, due = found
            if status != InboxReceipt.Status.RETRYING or not (due or attempts == after):
                return outcome_of_status(status)
            receipts.update(status=InboxReceipt.Status.HANDLING, attempts=attempts + 1, retry_at=from_now(LEASE))
            return Attempt(consumer, message_id, attempts + 1)


def run(attempt: Attempt, message: Message, handler: HandlerFunction) -> Outcome:
    """Run the handler of an attempt. Its writes and the receipt commit together.

    Return HANDLED, or POSTPONED if the attempt was taken for lost, in which case the handler does not run.

    Raise the errors of `handle_once`.
    """
    using = conf.settings().database
    with storage_errors("handle a message", connections[using]), tracked_atomic(connections[using]):
        # Lock the receipt now, and change it only after the handler has ended: a second delivery that inserts a receipt
        # would wait for the end of a transaction that has changed one.
        if _attempts(attempt).select_for_update().values_list("pk").first() is None:
            return Outcome.POSTPONED
        run_handler(handler, message)
        finish(attempt)
    return Outcome.HANDLED


def finish(attempt: Attempt) -> None:
    """Mark the message as handled, in the caller's transaction."""
    done = InboxReceipt.Status.HANDLED
    _attempts(attempt).update(status=done, last_error="", message=None, route=None, retry_at=None, handled_at=Now())


def settle(attempt: Attempt, error: str, seconds: float | None) -> Outcome:
    """Store the failure of an attempt: the message is handled again in some seconds, or is dead if `seconds` is None.

    Return POSTPONED or DEAD. If the attempt has been settled already, return the outcome of the receipt.

    Raise `StorageError` if the database fails.
    """
    with storage_errors("store a failed attempt", connections[conf.settings().database]):
        if seconds is None:
            changed = _attempts(attempt).update(
                status=InboxReceipt.Status.DEAD, last_error=error, route=None, retry_at=None, handled_at=Now()
            )
            outcome = Outcome.DEAD
        else:
            changed = _attempts(attempt).update(
                status=InboxReceipt.Status.RETRYING, last_error=error, retry_at=from_now(seconds)
            )
            outcome = Outcome.POSTPONED
        if changed:
            return outcome
        status = _receipts(attempt.consumer, attempt.message_id).values_list("status", flat=True).first()
        return Outcome.POSTPONED if status is None else outcome_of_status(status)


def from_now(seconds: float) -> Combinable:
    """Return a time in the future, by the clock of the database."""
    return Now() + timedelta(seconds=seconds)


def _receipts(consumer: str, message_id: str) -> QuerySet[InboxReceipt]:
    receipts = InboxReceipt.objects.using(conf.settings().database)
    return receipts.filter(consumer=consumer, message_id=message_id, conflict="")


def _attempts(attempt: Attempt) -> QuerySet[InboxReceipt]:
    receipts = _receipts(attempt.consumer, attempt.message_id)
    return receipts.filter(status=InboxReceipt.Status.HANDLING, attempts=attempt.number)
