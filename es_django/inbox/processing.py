"""Handle messages: each consumer handles a message once, and a message that cannot be handled is kept as dead.

A delivered message is never lost: either the sender is asked to send it again, or a dead receipt keeps it.
"""

import json
import logging
from uuid import UUID, uuid5

import msgspec

from es_django.core.errors import EsDjangoError, InvalidStreamId
from es_django.core.instrumentation import Kind, Work
from es_django.core.retryability import is_retryable
from es_django.core.serialization import storable_text
from es_django.inbox.handlers import UNHANDLED, HandlerFunction, handlers_of
from es_django.inbox.receipts import (
    Outcome,
    dead_letter,
    handle_once,
    has_other_content,
    insert_dead_receipt,
    keep_conflict,
    outcome_of_receipt,
)
from es_django.messages.fingerprint import fingerprint_of
from es_django.messages.message import Message, from_wire, to_wire

logger: logging.Logger = logging.getLogger("es_django.inbox")

NOT_MESSAGES = UUID("6d0b4f0e-1f3a-5d51-9f0e-0f8a3c2f7b61")
"""The UUID namespace for content that is not a message. Such content is kept under an id made from the content."""
REDELIVERED = "a worker stopped or died while it had this message"


def handle(message: Message, *, attempt: int = 1, last: bool = False) -> Outcome:
    """Run the handler of each consumer of a message, and return the most severe outcome.

    If a handler fails with an error that is not retryable, the message is kept as dead for that consumer. At the `last`
    attempt, any error has this effect. Consumers are independent: after POSTPONED, the next attempt runs only handlers
    whose consumer has no receipt yet.
    """
    outcomes = [
        _handle(consumer, message, handler, attempt=attempt, last=last)
        for consumer, handler in handlers_of(message.type).items()
    ]
    return max(outcomes, default=Outcome.NO_HANDLER)


def receive(delivered: object, *, attempt: int, last: bool, redelivered: bool = False) -> Outcome:
    """Handle the content of a broker's delivery. Return HANDLED, REPEATED, DEAD or POSTPONED.

    | delivery | outcome |
    | --- | --- |
    | not a message | dead at once |
    | no handler for its type | postponed, because a deployment may add one; dead at the `last` attempt |
    | `redelivered`, already has a receipt | repeated, or dead as before |
    | `redelivered`, without a receipt | no handler runs: postponed, or dead at the `last` attempt |
    | any other | as `handle` |

    A delivery is `redelivered` if a previous worker ended before it acknowledged the message. That attempt counts as
    failed, because the message may have killed the worker.
    """
    try:
        message = from_wire(delivered)  # type: ignore[arg-type]  # `from_wire` raises for any other type
    except (msgspec.ValidationError, InvalidStreamId) as error:
        kept_as = str(uuid5(NOT_MESSAGES, json.dumps(delivered, default=repr)))
        reason = f"not a message: {error}"
        logger.error("a delivery is kept as dead: %s", storable_text(reason), extra={"message_id": kept_as})
        return _keep_unhandled(kept_as, delivered, reason, attempt, "")
    outcome = (_handle_redelivered if redelivered else handle)(message, attempt=attempt, last=last)
    if outcome is not Outcome.NO_HANDLER:
        return outcome
    reason = f"no handler for messages of type {message.type!r}"
    ids = {"message_id": message.message_id, "attempt": attempt}
    logger.warning("message %s: %s", message.message_id, storable_text(reason), extra=ids)
    if not last:
        return Outcome.POSTPONED
    return _keep_unhandled(str(message.message_id), delivered, reason, attempt, fingerprint_of(message))


def _handle_redelivered(message: Message, *, attempt: int, last: bool) -> Outcome:
    ids = {"message_id": message.message_id, "attempt": attempt}
    logger.warning("message %s: %s", message.message_id, REDELIVERED, extra=ids)
    outcomes = [_fail_attempt(consumer, message, attempt=attempt, last=last) for consumer in handlers_of(message.type)]
    return max(outcomes, default=Outcome.NO_HANDLER)


def _fail_attempt(consumer: str, message: Message, *, attempt: int, last: bool) -> Outcome:
    message_id = str(message.message_id)
    with Work(Kind.HANDLE, consumer, 1, [message.headers]) as work:
        try:
            if last:
                outcome = dead_letter(consumer, message, REDELIVERED, attempt=attempt)
            elif has_other_content(message_id, content := fingerprint_of(message)):
                outcome = keep_conflict(consumer, message_id, content, to_wire(message))
            else:
                outcome = outcome_of_receipt(consumer, message_id) or Outcome.POSTPONED
        except EsDjangoError as failure:
            work.error = failure
            outcome = _postpone(message_id, failure)
        work.outcomes = {outcome.name.lower(): 1}
    return outcome


def _handle(consumer: str, message: Message, handler: HandlerFunction, *, attempt: int, last: bool) -> Outcome:
    with Work(Kind.HANDLE, consumer, 1, [message.headers]) as work:
        try:
            outcome = handle_once(consumer, message, handler, attempt=attempt)
        except Exception as error:
            work.error = error
            outcome = _failed(consumer, message, error, attempt=attempt, last=last)
        work.outcomes = {outcome.name.lower(): 1}
    return outcome


def _failed(consumer: str, message: Message, error: Exception, *, attempt: int, last: bool) -> Outcome:
    reason = storable_text(error)
    ids = {"consumer": consumer, "message_id": message.message_id, "attempt": attempt}
    logger.warning(
        "consumer %s failed on message %s: %s", consumer, message.message_id, reason, exc_info=error, extra=ids
    )
    if is_retryable(error) and not last:
        return Outcome.POSTPONED
    try:
        return dead_letter(consumer, message, error, attempt=attempt)
    except EsDjangoError as failure:
        return _postpone(str(message.message_id), failure)


def _keep_unhandled(message_id: str, content: object, reason: str, attempt: int, fingerprint: str) -> Outcome:
    try:
        return insert_dead_receipt(
            UNHANDLED, message_id, content, storable_text(reason), attempt=attempt, fingerprint=fingerprint
        )
    except EsDjangoError as failure:
        return _postpone(message_id, failure)


def _postpone(message_id: str, failure: EsDjangoError) -> Outcome:
    # Without a dead receipt the message would be lost.
    logger.warning(
        "message %s could not be stored as a dead letter, so it is handled again later: %s",
        message_id,
        failure,
        extra={"message_id": message_id},
    )
    return Outcome.POSTPONED
