"""Handles a message once per consumer: the receipt is written with the handler's own effects.

A crash before the commit leaves neither, so that the message is handled again; one after it leaves both, so that a
further delivery does nothing.
"""

import json
import time
from datetime import timedelta
from enum import IntEnum
from typing import Any

from django.db import connections, transaction
from django.db.models.functions import Now

from es_django import conf
from es_django.core.errors import PayloadError
from es_django.core.metadata import metadata
from es_django.core.retryability import ends_process
from es_django.core.serialization import encode_payload, storable_text
from es_django.core.streams import require_name
from es_django.inbox.errors import HandlerInterrupted
from es_django.inbox.handlers import HandlerFunction
from es_django.messages.message import Message, to_wire
from es_django.models import InboxReceipt
from es_django.store.error_translation import require_healthy_transaction, storage_errors


class Outcome(IntEnum):
    """What became of a message, the worst last, so that the outcome of several is their `max`."""

    REPEATED = 1
    """It was handled before, and nothing was done."""
    HANDLED = 2
    NO_HANDLER = 3
    DEAD = 4
    """It is kept as dead, now or since before."""
    POSTPONED = 5
    """Nothing of it is kept, and trying again can help."""


# Waits for a concurrent insert of the same receipt, and does nothing if that one commits.
INSERT_RECEIPT = """
INSERT INTO es_django_inboxreceipt (consumer, message_id, status, attempts, last_error, handled_at)
VALUES (%s, %s, 'handled', %s, '', CURRENT_TIMESTAMP)
    ON CONFLICT (consumer, message_id) DO NOTHING
"""

STATUS_OF_RECEIPT = """
SELECT status FROM es_django_inboxreceipt WHERE consumer = %s AND message_id = %s
"""


def handle_once(consumer: str, message: Message, handler: HandlerFunction, *, attempt: int = 1) -> Outcome:
    """Runs the handler, unless this consumer has a receipt for the message: HANDLED, or what the receipt says,
    REPEATED or DEAD.

    Of two concurrent deliveries the second waits for the first. Whatever the handler raises is passed on, and nothing
    of what it wrote is kept; a database error as `StorageError`; what is no `Exception`, such as the `SystemExit` of
    `sys.exit()`, as `HandlerInterrupted`, unless it is the end of the process. Raises `ValueError` if the consumer or
    the message id is blank.
    """
    using, receipt = conf.settings().database, _identity(consumer, message)
    with storage_errors("handle a message", connections[using]), transaction.atomic(using=using):
        with connections[using].cursor() as cursor:
            cursor.execute(INSERT_RECEIPT, [*receipt, attempt])
            if cursor.rowcount == 0:
                cursor.execute(STATUS_OF_RECEIPT, receipt)
                return Outcome.DEAD if cursor.fetchone() == (InboxReceipt.Status.DEAD,) else Outcome.REPEATED
        run_handler(handler, message)
    return Outcome.HANDLED


def run_handler(handler: HandlerFunction, message: Message) -> None:
    """Runs a handler in the caller's transaction, which must be rolled back if this raises."""
    with metadata(correlation_id=message.headers.get("correlation_id") or None, causation_id=str(message.message_id)):
        try:
            handler(message)
        except Exception:
            raise
        except BaseException as error:
            if ends_process(error):
                raise
            raise HandlerInterrupted(storable_text(error)) from error
    require_healthy_transaction("handle a message", connections[conf.settings().database])


def bury(consumer: str, message: Message, error: BaseException, *, attempt: int) -> Outcome:
    """Keeps a message that the consumer will not handle, with its content, as dead.

    Returns DEAD, or REPEATED if another delivery of it has been handled meanwhile.
    """
    return keep_dead(*_identity(consumer, message), to_wire(message), storable_text(error), attempt=attempt)


def keep_dead(consumer: str, message_id: str, content: object, reason: str, *, attempt: int) -> Outcome:
    """Writes a dead receipt, unless there is a receipt already. Raises `StorageError`."""
    with storage_errors("keep a dead message", connections[conf.settings().database]):
        receipt, _ = InboxReceipt.objects.using(conf.settings().database).get_or_create(
            consumer=consumer,
            message_id=message_id,
            defaults={
                "status": InboxReceipt.Status.DEAD,
                "attempts": attempt,
                "last_error": reason,
                "message": _storable(content),
            },
        )
    return Outcome.DEAD if receipt.status == InboxReceipt.Status.DEAD else Outcome.REPEATED


def outcome_on_record(consumer: str, message_id: str) -> Outcome | None:
    """REPEATED or DEAD, as the consumer's receipt for the message says, or None without one. Raises `StorageError`."""
    receipts = InboxReceipt.objects.using(conf.settings().database).filter(consumer=consumer, message_id=message_id)
    with storage_errors("look for a receipt", connections[conf.settings().database]):
        status = receipts.values_list("status", flat=True).first()
    if status is None:
        return None
    return Outcome.DEAD if status == InboxReceipt.Status.DEAD else Outcome.REPEATED


def kept_content(receipt: InboxReceipt) -> Any:
    """The content that was given to `keep_dead`."""
    return json.loads(receipt.message) if isinstance(receipt.message, str) else receipt.message


def prune_receipts(older_than: timedelta, *, batch_size: int = 1000, seconds: float = 10.0) -> int:
    """Deletes the receipts of messages handled longer than `older_than` ago and returns how many; dead ones stay.

    Each batch is a transaction of its own; no further one begins after `seconds`. A message whose receipt is gone
    would be handled again if it were delivered again.
    """
    using, deadline, deleted = conf.settings().database, time.monotonic() + seconds, 0
    receipts = InboxReceipt.objects.using(using)
    old = receipts.filter(status=InboxReceipt.Status.HANDLED, handled_at__lt=Now() - older_than).order_by("handled_at")
    while True:
        with storage_errors("delete old receipts", connections[using]), transaction.atomic(using=using, durable=True):
            # Two at once would each wait for rows of the other.
            batch = list(old.select_for_update(skip_locked=True).values_list("pk", flat=True)[:batch_size])
            receipts.filter(pk__in=batch).delete()
        deleted += len(batch)
        if len(batch) < batch_size or time.monotonic() >= deadline:
            return deleted


def _identity(consumer: str, message: Message) -> tuple[str, str]:
    identity = consumer, str(message.message_id)
    for field, value in zip(("consumer", "message id"), identity, strict=True):
        require_name(f"the {field}", value, ValueError)
    return identity


def _storable(content: object) -> object:
    """The content itself, or its JSON as text, where the null character and lone surrogates are escapes."""
    try:
        encode_payload(content, "message")
    except PayloadError:
        return json.dumps(content, default=repr)
    # A text would be taken for such JSON.
    return json.dumps(content) if isinstance(content, str) else content
