"""Handle the messages that a broker delivers. Once a delivery is received, the database keeps its message.

So the broker may forget the delivery: the receipt of each consumer says that the message is handled, dead, or due.
"""

import json
from uuid import UUID, uuid5

import msgspec

from es_django.core.errors import EsDjangoError, InvalidStreamId
from es_django.core.instrumentation import Kind, Work
from es_django.core.logs import Log
from es_django.core.serialization import storable_text
from es_django.inbox import attempts
from es_django.inbox.attempts import Attempt
from es_django.inbox.handlers import UNHANDLED, Handler, handlers_of
from es_django.inbox.receipts import Outcome, insert_dead_receipt
from es_django.inbox.retry_policy import seconds_until_retry
from es_django.messages.message import Message, from_wire

logger: Log = Log("es_django.inbox")

NOT_MESSAGES = UUID("6d0b4f0e-1f3a-5d51-9f0e-0f8a3c2f7b61")
"""The UUID namespace for content that is not a message. Such content is kept under an id made from the content."""


def receive(
    delivered: object, *, consumer: str | None = None, after: int | None = None, route: object = None
) -> Outcome:
    """Handle the content of a broker's delivery, and return the most severe outcome of its consumers.

    | delivery | outcome |
    | --- | --- |
    | not a message | dead at once |
    | no handler for its type | postponed, because a deployment may add one; dead after the last attempt |
    | its handler fails | postponed, or dead after the last attempt or an error that is not retryable |
    | it has a receipt | as `attempts.begin` says |

    A retry is for one `consumer`, `after` so many attempts; by default, the handlers of all consumers run. After
    POSTPONED, the receipt has the time of the next attempt, and `retries` sends the message again along the `route`.

    Raise `StorageError` if an attempt could not begin: the broker must deliver the message again.
    """
    try:
        message = from_wire(delivered)  # type: ignore[arg-type]  # `from_wire` raises for any other type
    except (msgspec.ValidationError, InvalidStreamId) as error:
        kept_as = str(uuid5(NOT_MESSAGES, json.dumps(delivered, default=repr)))
        reason = storable_text(f"not a message: {error}")
        logger.error("a delivery is kept as dead: %s", reason, extra={"message_id": kept_as})
        return insert_dead_receipt(UNHANDLED, kept_as, delivered, reason, attempt=1)
    handlers = handlers_of(message.type)
    if consumer is not None and consumer != UNHANDLED:
        handlers = {name: handler for name, handler in handlers.items() if name == consumer}
    if not handlers:
        return _wait_for_handler(consumer or UNHANDLED, message, delivered, route, after)
    if consumer != UNHANDLED:
        return max(_handle(name, message, handler, delivered, route, after) for name, handler in handlers.items())
    outcome = max(_handle(name, message, handler, delivered, route, None) for name, handler in handlers.items())
    # Only now, because each consumer has a receipt of its own from here on.
    waited = attempts.begin(UNHANDLED, message, delivered, route, after=after)
    if isinstance(waited, Attempt):
        attempts.finish(waited)
    return outcome


def _handle(
    consumer: str, message: Message, handler: Handler, delivered: object, route: object, after: int | None
) -> Outcome:
    with Work(Kind.HANDLE, consumer, 1, [message.headers]) as work:
        begun = attempts.begin(consumer, message, delivered, route, after=after)
        if isinstance(begun, Attempt):
            try:
                outcome = attempts.run(begun, message, handler)
            except Exception as error:
                work.error = error
                outcome = _failed(begun, handler, error)
        else:
            outcome = begun
        work.outcomes = {outcome.name.lower(): 1}
    return outcome


def _failed(attempt: Attempt, handler: Handler, error: Exception) -> Outcome:
    seconds = seconds_until_retry(error, handler, attempt.number)
    log_failure(attempt, storable_text(error), seconds, error)
    try:
        return attempts.settle(attempt, storable_text(error), seconds)
    except EsDjangoError as failure:
        # The receipt says that a handler runs. After its lease, the attempt counts as lost.
        logger.warning(
            "the failure of message %s could not be stored, so the message is handled again later: %s",
            attempt.message_id,
            failure,
            extra={"consumer": attempt.consumer, "message_id": attempt.message_id},
        )
        return Outcome.POSTPONED


def log_failure(attempt: Attempt, reason: str, seconds: float | None, error: BaseException | None = None) -> None:
    """Log the failure of an attempt: as an error if the message is dead, otherwise as a warning."""
    ids = {"consumer": attempt.consumer, "message_id": attempt.message_id, "attempt": attempt.number}
    known = attempt.consumer, attempt.message_id
    if seconds is None:
        logger.error(
            "consumer %s failed on message %s, which is dead now: %s", *known, reason, exc_info=error, extra=ids
        )
    else:
        logger.warning(
            "consumer %s failed on message %s, retry in %.0f s: %s", *known, seconds, reason, exc_info=error, extra=ids
        )


def _wait_for_handler(consumer: str, message: Message, delivered: object, route: object, after: int | None) -> Outcome:
    begun = attempts.begin(consumer, message, delivered, route, after=after)
    if not isinstance(begun, Attempt):
        return begun
    who = "" if consumer == UNHANDLED else f" in consumer {consumer}"
    reason = storable_text(f"no handler for messages of type {message.type!r}{who}")
    seconds = seconds_until_retry(None, None, begun.number)
    log_failure(begun, reason, seconds)
    return attempts.settle(begun, reason, seconds)


def keep_revoked(
    delivered: object, reason: str, *, begun: bool, consumer: str | None = None, after: int | None = None
) -> None:
    """Keep a message whose task was ended from outside, because its broker is about to forget it.

    If its handler had not `begun`, the message becomes dead. Otherwise it counts as handled by a worker that was lost,
    so it is handled again, or is dead after the last attempt. Receipts that are handled or dead stay as they are.

    Raise `StorageError` if the database fails.
    """
    try:
        message = from_wire(delivered)  # type: ignore[arg-type]  # `from_wire` raises for any other type
    except (msgspec.ValidationError, InvalidStreamId):
        receive(delivered)
        return
    consumers = list(handlers_of(message.type)) if consumer is None else [consumer]
    for name in consumers or [UNHANDLED]:
        attempt = attempts.begin(name, message, delivered, None, after=after)
        if isinstance(attempt, Attempt) and not begun:
            log_failure(attempt, reason, None)
            attempts.settle(attempt, reason, None)
