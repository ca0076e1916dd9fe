"""Handle a message once for each consumer: the receipt and the handler's writes commit together.

- If the process crashes before the commit, nothing is stored, and the message is handled again.
- If the process crashes after the commit, the receipt and the writes are stored. Another delivery has no effect.
"""

import json
import time
from datetime import timedelta
from enum import IntEnum
from typing import Any

from django.db import connections, transaction
from django.db.models.functions import Now

from es_django import conf
from es_django.core.chunks import chunks
from es_django.core.errors import PayloadError
from es_django.core.logs import Log
from es_django.core.metadata import metadata
from es_django.core.retryability import ends_process
from es_django.core.serialization import encode_payload, storable_text
from es_django.core.streams import require_name
from es_django.inbox.errors import HandlerInterrupted
from es_django.inbox.handlers import HandlerFunction
from es_django.messages.fingerprint import fingerprint_of
from es_django.messages.message import Message, to_wire
from es_django.models import InboxReceipt
from es_django.store.commit_tracking import tracked_atomic
from es_django.store.error_translation import require_healthy_transaction, storage_errors

logger: Log = Log("es_django.inbox")

OTHER_CONTENT = (
    "another message with the same id was handled before, with other content. If the sender used the id twice by "
    "mistake, replay this message to have it handled as well"
)


class Outcome(IntEnum):
    """The outcomes of a message, in rising order of severity, so that `max` combines several outcomes."""

    REPEATED = 1
    """The message was handled earlier; the handler did not run."""
    HANDLED = 2
    NO_HANDLER = 3
    DEAD = 4
    """The message is kept as dead, since this delivery or an earlier one."""
    CONFLICT = 5
    """Other content under the message's id was handled before. This content is refused, and kept as dead."""
    POSTPONED = 6
    """The message is handled again later: its receipt waits, or without a receipt its sender must deliver it again."""


# This waits for a concurrent insert of the same receipt. If the concurrent insert commits, this inserts nothing.
# It also inserts nothing if any consumer has a receipt for other content under the same message id.
INSERT_RECEIPT = """
INSERT INTO es_django_inboxreceipt (consumer, message_id, fingerprint, status, attempts, last_error, handled_at)
SELECT %s, %s, %s, 'handled', %s, '', CURRENT_TIMESTAMP
 WHERE NOT EXISTS (SELECT 1 FROM es_django_inboxreceipt
                    WHERE message_id = %s AND conflict = '' AND fingerprint NOT IN ('', %s))
    ON CONFLICT (message_id, consumer, conflict) DO NOTHING
"""


def handle_once(consumer: str, message: Message, handler: HandlerFunction, *, attempt: int = 1) -> Outcome:
    """Run the handler unless this consumer has a receipt for the message.

    Return HANDLED if the handler ran, otherwise the outcome of the receipt: REPEATED, DEAD or POSTPONED. If a message
    is delivered twice at the same time, the second delivery waits for the first. If the handler raises, its writes are
    rolled back.

    Return CONFLICT if any consumer has a receipt for other content under the message's id. The content is kept as dead.

    Raises:
        ValueError: the consumer or the message id is not a valid name.
        StorageError: the database failed.
        HandlerInterrupted: the handler raised an exception that is not an `Exception`, such as the `SystemExit` of
            `sys.exit()`. An exception that must end the process is raised unchanged.
        Exception: any other error of the handler.
    """
    using, receipt = conf.settings().database, identity_of(consumer, message)
    with storage_errors("handle a message", connections[using]), tracked_atomic(connections[using]):
        with connections[using].cursor() as cursor:
            content = fingerprint_of(message)
            cursor.execute(INSERT_RECEIPT, [*receipt, content, attempt, receipt[1], content])
            is_new = cursor.rowcount == 1
        if not is_new:
            if has_other_content(receipt[1], content):
                return keep_conflict(*receipt, content, to_wire(message))
            return outcome_of_receipt(*receipt) or Outcome.POSTPONED
        run_handler(handler, message)
    return Outcome.HANDLED


def run_handler(handler: HandlerFunction, message: Message) -> None:
    """Run a handler in the caller's transaction. If this raises, the caller must roll the transaction back."""
    with metadata(correlation_id=message.headers.get("correlation_id"), causation_id=str(message.message_id)):
        try:
            handler(message)
        except Exception:
            raise
        except BaseException as error:
            if ends_process(error):
                raise
            raise HandlerInterrupted(storable_text(error)) from error
    require_healthy_transaction("handle a message", connections[conf.settings().database])


def dead_letter(consumer: str, message: Message, error: object, *, attempt: int) -> Outcome:
    """Keep a message that the consumer will not handle as dead, with its content.

    Return DEAD, the outcome of the receipt that another delivery has stored in the meantime, or CONFLICT if the receipt
    has other content.
    """
    return insert_dead_receipt(
        *identity_of(consumer, message),
        to_wire(message),
        storable_text(error),
        attempt=attempt,
        fingerprint=fingerprint_of(message),
    )


def has_other_content(message_id: str, fingerprint: str) -> bool:
    """Return whether any consumer has a receipt for other content under this message id. Raise `StorageError`."""
    receipts = InboxReceipt.objects.using(conf.settings().database).filter(message_id=message_id, conflict="")
    with storage_errors("look up a receipt", connections[conf.settings().database]):
        return receipts.exclude(fingerprint__in=("", fingerprint)).exists()


def keep_conflict(consumer: str, message_id: str, fingerprint: str, content: object) -> Outcome:
    """Keep content that is refused because its message id has other content, in a dead receipt of its own.

    Return CONFLICT, or REPEATED if an operator has replayed this content. Raise `StorageError`.
    """
    kept = insert_dead_receipt(
        consumer, message_id, content, OTHER_CONTENT, attempt=1, fingerprint=fingerprint, conflict=fingerprint
    )
    if kept is Outcome.REPEATED:
        return kept
    logger.error(
        "message %s of consumer %s is refused and kept as dead: %s",
        message_id,
        consumer,
        OTHER_CONTENT,
        extra={"consumer": consumer, "message_id": message_id},
    )
    return Outcome.CONFLICT


def insert_dead_receipt(
    consumer: str,
    message_id: str,
    content: object,
    reason: str,
    *,
    attempt: int,
    fingerprint: str = "",
    conflict: str = "",
) -> Outcome:
    """Insert a dead receipt unless the message has a receipt. Return its outcome. Raise `StorageError`.

    If the receipt has another fingerprint, keep this content as a conflict and return CONFLICT. Content that is not a
    message has no fingerprint.
    """
    with storage_errors("store a dead message", connections[conf.settings().database]):
        receipt, _ = InboxReceipt.objects.using(conf.settings().database).get_or_create(
            consumer=consumer,
            message_id=message_id,
            conflict=conflict,
            defaults={
                "fingerprint": fingerprint,
                "status": InboxReceipt.Status.DEAD,
                "attempts": attempt,
                "last_error": reason,
                "message": storable_content(content),
            },
        )
    if fingerprint and receipt.fingerprint not in ("", fingerprint):
        return keep_conflict(consumer, message_id, fingerprint, content)
    return outcome_of_status(receipt.status)


def outcome_of_receipt(consumer: str, message_id: str) -> Outcome | None:
    """Return the outcome of the receipt, or None without a receipt. Raise `StorageError`."""
    receipts = InboxReceipt.objects.using(conf.settings().database).filter(
        consumer=consumer, message_id=message_id, conflict=""
    )
    with storage_errors("look up a receipt", connections[conf.settings().database]):
        status = receipts.values_list("status", flat=True).first()
    return None if status is None else outcome_of_status(status)


def outcome_of_status(status: str) -> Outcome:
    """Return the outcome of a delivery whose message has a receipt with this status."""
    return _OUTCOMES[InboxReceipt.Status(status)]


_OUTCOMES = {
    InboxReceipt.Status.HANDLED: Outcome.REPEATED,
    InboxReceipt.Status.DEAD: Outcome.DEAD,
    InboxReceipt.Status.HANDLING: Outcome.POSTPONED,
    InboxReceipt.Status.RETRYING: Outcome.POSTPONED,
}


def content_of(receipt: InboxReceipt) -> Any:
    """Return the content of a receipt that is not handled: the delivery from which it was made."""
    return json.loads(receipt.message) if isinstance(receipt.message, str) else receipt.message


def prune_receipts(older_than: timedelta, *, batch_size: int = 1000, seconds: float = 10.0) -> int:
    """Delete the receipts of messages that were handled longer than `older_than` ago, and return their number.

    Keep dead receipts. Each batch has a transaction of its own, and no batch begins after `seconds`. After its receipt
    is deleted, a message would be handled again if it were delivered again. So choose `older_than` longer than any
    sender retries.
    """
    using, deadline, deleted = conf.settings().database, time.monotonic() + seconds, 0
    receipts = InboxReceipt.objects.using(using)
    old = receipts.filter(status=InboxReceipt.Status.HANDLED, handled_at__lt=Now() - older_than).order_by("handled_at")
    while True:
        with storage_errors("delete old receipts", connections[using]), transaction.atomic(using=using, durable=True):
            # Skip locked rows, because two concurrent runs would otherwise wait for each other's rows.
            batch = list(old.select_for_update(skip_locked=True).values_list("pk", flat=True)[:batch_size])
            for chunk in chunks(batch):
                receipts.filter(pk__in=chunk).delete()
        deleted += len(batch)
        if len(batch) < batch_size or time.monotonic() >= deadline:
            return deleted


def identity_of(consumer: str, message: Message) -> tuple[str, str]:
    """Return the names by which a receipt is found. Raise ValueError unless both are valid."""
    identity = consumer, str(message.message_id)
    for field, value in zip(("consumer", "message id"), identity, strict=True):
        require_name(f"the {field}", value, ValueError)
    return identity


def storable_content(content: object) -> object:
    """Return the content, or its JSON as text if the content has characters that the databases cannot store.

    These are null characters and lone surrogates. The text holds them as JSON escapes.
    """
    try:
        encode_payload(content, "message")
    except PayloadError:
        return json.dumps(content, default=repr)
    # `content_of` parses every string as JSON.
    return json.dumps(content) if isinstance(content, str) else content
