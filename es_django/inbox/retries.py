"""Hand messages whose time has come to a worker again, and find the handlers that were lost."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from django.db import connections, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from es_django import conf
from es_django.core.logs import Log
from es_django.inbox.attempts import Attempt, from_now, settle
from es_django.inbox.delivery import log_failure
from es_django.inbox.handlers import Handler, handlers_of
from es_django.inbox.receipts import content_of
from es_django.inbox.retry_policy import seconds_until_retry
from es_django.models import InboxReceipt
from es_django.store.error_translation import storage_errors

logger: Log = Log("es_django.inbox")

BATCH = 500
"""The highest number of messages that one run hands over, so that a backlog does not flood the broker."""
HANDOVER = 120
"""Seconds after which a message that was handed over, but that no worker has begun, is handed over again."""
NOT_SENT = 10
"""Seconds after which a message is handed over again that the broker did not accept."""
LOST = "the worker stopped, died or was killed while it handled this message"


class Retry(msgspec.Struct, frozen=True):
    """A message that is due for a consumer: the `content` and the `route` of its delivery, and the attempts so far."""

    consumer: str
    message_id: str
    after: int
    content: Any
    route: Any


def hand_over(send: Callable[[Sequence[Retry]], Sequence[Exception | None]]) -> int:
    """Hand the messages that are due to `send`, which returns the outcome of each. Return how many were sent.

    A handler that was lost counts as a failed attempt, so its message is dead after the last attempt. If several
    processes run this at once, each takes other messages. Without a message that is due, this costs one query.

    Raise `StorageError` if the database fails.
    """
    using = conf.settings().database
    with storage_errors("find messages to retry", connections[using]):
        if not _due().exists():
            return 0
        with transaction.atomic(using=using, durable=True):
            # A handler that is alive holds the lock of its receipt.
            found = list(_due().select_for_update(skip_locked=True).order_by("retry_at")[:BATCH])
            for receipt in found:
                if receipt.status == InboxReceipt.Status.HANDLING:
                    _count_as_lost(receipt)
            due = [receipt for receipt in found if receipt.status == InboxReceipt.Status.RETRYING]
            _receipts().filter(pk__in=[receipt.pk for receipt in due]).update(retry_at=from_now(HANDOVER))
        retries = [Retry(each.consumer, each.message_id, each.attempts, content_of(each), each.route) for each in due]
        outcomes = send(retries)
        if failed := [each.pk for each, error in zip(due, outcomes, strict=True) if error is not None]:
            waiting = _receipts().filter(pk__in=failed, status=InboxReceipt.Status.RETRYING)
            waiting.update(retry_at=from_now(NOT_SENT))
            errors = [error for error in outcomes if error is not None]
            logger.warning(
                "%s messages could not be handed to a worker for their retry: %r",
                len(failed),
                errors[0],
                extra={"message_ids": [each.message_id for each, error in zip(due, outcomes, strict=True) if error]},
            )
    return len(due) - len(failed)


def _due() -> QuerySet[InboxReceipt]:
    open_ = (InboxReceipt.Status.HANDLING, InboxReceipt.Status.RETRYING)
    return _receipts().filter(status__in=open_, retry_at__lte=Now())


def _receipts() -> QuerySet[InboxReceipt]:
    return InboxReceipt.objects.using(conf.settings().database)


def _count_as_lost(receipt: InboxReceipt) -> None:
    attempt = Attempt(receipt.consumer, receipt.message_id, receipt.attempts)
    seconds = seconds_until_retry(None, _handler_of(receipt), attempt.number)
    log_failure(attempt, LOST, seconds)
    settle(attempt, LOST, seconds)


def _handler_of(receipt: InboxReceipt) -> Handler | None:
    content = content_of(receipt)
    message_type = content.get("type") if isinstance(content, dict) else None
    return handlers_of(message_type).get(receipt.consumer) if isinstance(message_type, str) else None
