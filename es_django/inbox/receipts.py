"""Handles a message once per consumer: the receipt is written with the handler's own effects.

A crash before the commit leaves neither, so that the message is handled again; one after it leaves both, so that a
further delivery does nothing.
"""

from django.db import connections, transaction

from es_django import conf
from es_django.inbox.handlers import HandlerFunction
from es_django.metadata import metadata
from es_django.models import InboxReceipt
from es_django.payloads import storable_text
from es_django.store.failures import refuse_swallowed_failure, storage_errors
from es_django.store.messages import Message, to_wire

# Waits for a concurrent insert of the same receipt, and does nothing if that one commits.
INSERT_RECEIPT = """
INSERT INTO es_django_inboxreceipt (consumer, message_id, status, attempts, last_error, handled_at)
VALUES (%s, %s, 'handled', %s, '', CURRENT_TIMESTAMP)
    ON CONFLICT (consumer, message_id) DO NOTHING
"""


def handle_once(consumer: str, message: Message, handler: HandlerFunction, *, attempt: int = 1) -> bool:
    """Runs the handler, unless this consumer has a receipt for the message, and returns whether it ran.

    Of two concurrent deliveries the second waits for the first. Whatever the handler raises is passed on, and nothing
    of what it wrote is kept; a database error as `StorageError`.
    """
    using = conf.settings().database
    with storage_errors("handle a message"), transaction.atomic(using=using):
        with connections[using].cursor() as cursor:
            cursor.execute(INSERT_RECEIPT, [consumer, str(message.message_id), attempt])
            if cursor.rowcount == 0:
                return False
        with metadata(correlation_id=message.headers.get("correlation_id"), causation_id=str(message.message_id)):
            handler(message)
        refuse_swallowed_failure(using, "handle a message")
    return True


def bury(consumer: str, message: Message, error: BaseException, *, attempt: int) -> None:
    """Keeps a message that the consumer will not handle, with its content, as dead."""
    using = conf.settings().database
    with storage_errors("keep a dead message"):
        InboxReceipt.objects.using(using).get_or_create(
            consumer=consumer,
            message_id=str(message.message_id),
            defaults={
                "status": InboxReceipt.Status.DEAD,
                "attempts": attempt,
                "last_error": storable_text(error),
                "message": to_wire(message),
            },
        )
