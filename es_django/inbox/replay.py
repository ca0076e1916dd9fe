"""Replay dead messages of the inbox."""

from uuid import UUID

import msgspec
from django.db import connections, transaction
from django.db.models import F
from django.db.models.functions import Now

from es_django import conf
from es_django.core.errors import InvalidStreamId
from es_django.core.logs import Log
from es_django.core.serialization import storable_text
from es_django.inbox.errors import NotReplayable
from es_django.inbox.handlers import UNHANDLED, HandlerFunction, handlers_of
from es_django.inbox.receipts import content_of, handle_once, run_handler
from es_django.messages.message import Message, from_wire
from es_django.models import InboxReceipt
from es_django.store.commit_tracking import tracked_atomic
from es_django.store.error_translation import storage_errors

logger: Log = Log("es_django.inbox")


def replay(consumer: str, message_id: UUID | str, *, conflict: str = "") -> None:
    """Run the consumer's handler on a dead message again.

    If the handler succeeds, its writes and the new status of the receipt, `handled`, commit together. If the handler
    fails, the message stays dead, with the new error and one more attempt. If a message is replayed twice at the same
    time, the second replay waits for the first.

    `conflict` is the column of that name of a receipt whose content was refused because its message id had other
    content: the handler runs on this content as well.

    A message that had no handler is kept for the consumer `es_django.unhandled`. Its replay runs all handlers that the
    type has now, in one transaction: if one of them fails, none takes effect.

    Raises:
        NotReplayable: the message is not dead, or has no handler.
        Exception: any error of the handler, as `handle_once` raises it.
    """
    using = conf.settings().database
    receipts = InboxReceipt.objects.using(using)
    with storage_errors("replay a message", connections[using]), tracked_atomic(connections[using]):
        this = receipts.filter(consumer=consumer, message_id=str(message_id), conflict=conflict)
        message, handler = _replayable(consumer, str(message_id), this.select_for_update().first())
        failure = _failure(handler, message, using)
        if failure is None:
            done = InboxReceipt.Status.HANDLED
            this.update(status=done, attempts=F("attempts") + 1, last_error="", message=None, handled_at=Now())
        else:
            this.update(attempts=F("attempts") + 1, last_error=storable_text(failure))
    ids = {"consumer": consumer, "message_id": message_id}
    if failure is not None:
        reason = storable_text(failure)
        logger.warning(
            "replay of message %s failed in consumer %s, and the message stays dead: %s",
            message_id,
            consumer,
            reason,
            extra=ids,
        )
        raise failure
    logger.info("replay of dead message %s succeeded in consumer %s", message_id, consumer, extra=ids)


def _failure(handler: HandlerFunction, message: Message, using: str) -> Exception | None:
    try:
        with storage_errors("handle a message", connections[using]), transaction.atomic(using=using):
            run_handler(handler, message)
    except Exception as error:
        return error
    return None


def _replayable(consumer: str, message_id: str, receipt: InboxReceipt | None) -> tuple[Message, HandlerFunction]:
    def not_replayable(reason: str) -> NotReplayable:
        return NotReplayable(consumer, message_id, reason)

    if receipt is None:
        raise not_replayable("it has no receipt")
    if receipt.status != InboxReceipt.Status.DEAD:
        raise not_replayable(f"its status is {receipt.status}, and only dead messages can be replayed")
    try:
        message = from_wire(content_of(receipt))
    except (msgspec.ValidationError, InvalidStreamId) as error:
        raise not_replayable(f"the content is not a message: {error}") from error
    handlers: dict[str, HandlerFunction] = {**handlers_of(message.type)}
    if consumer != UNHANDLED:
        handlers = {consumer: handlers[consumer]} if consumer in handlers else {}
    if not handlers:
        raise not_replayable(f"there is no handler for messages of type {message.type!r}")
    return message, _all_of(handlers) if consumer == UNHANDLED else handlers[consumer]


def _all_of(handlers: dict[str, HandlerFunction]) -> HandlerFunction:
    def handle(message: Message) -> None:
        for consumer, handler in handlers.items():
            handle_once(consumer, message, handler)

    return handle
