"""What becomes of a message: each of its consumers handles it once, and what none can take is kept.

A message that is delivered and not handled must be found somewhere: with its sender, who is asked to try again, or
here, as a dead receipt.
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
from es_django.inbox.receipts import Outcome, bury, handle_once, keep_dead, outcome_on_record
from es_django.messages.message import Message, from_wire, to_wire

logger: logging.Logger = logging.getLogger("es_django.inbox")

MALFORMED = UUID("6d0b4f0e-1f3a-5d51-9f0e-0f8a3c2f7b61")
"""The namespace of the ids that what is no message is kept under, made of its content."""
CAME_BACK = "it came back from a worker that stopped or died"


def handle(message: Message, *, attempt: int = 1, last: bool = False) -> Outcome:
    """Runs the handlers of a message, each once, and returns the worst of what became of it.

    A failure that trying again cannot help, and at the `last` attempt any, keeps the message as dead for that consumer.
    Handlers do not wait for each other: after POSTPONED the next attempt runs those that have not succeeded.
    """
    outcomes = [
        _handle(consumer, message, handler, attempt=attempt, last=last)
        for consumer, handler in handlers_of(message.type).items()
    ]
    return max(outcomes, default=Outcome.NO_HANDLER)


def receive(delivered: object, *, attempt: int, last: bool, came_back: bool = False) -> Outcome:
    """Handles what a broker delivered, which has no sender to return to: HANDLED, REPEATED, DEAD or POSTPONED.

    A message that nobody handles is postponed, since the code that does may be about to be deployed, and dead at the
    `last` attempt. What is no message is dead at once. Of what `came_back` from a worker that was not done with
    it, no handler runs: it has failed for each consumer that has not handled it, and is postponed, or dead.
    """
    try:
        message = from_wire(delivered)  # type: ignore[arg-type]  # it is what it says, or else an error
    except (msgspec.ValidationError, InvalidStreamId) as error:
        kept_as = str(uuid5(MALFORMED, json.dumps(delivered, default=repr)))
        logger.error("no message was delivered: %s", storable_text(str(error)), extra={"message_id": kept_as})
        return _keep_unhandled(kept_as, delivered, f"no message: {error}", attempt)
    outcome = (_take_back if came_back else handle)(message, attempt=attempt, last=last)
    if outcome is not Outcome.NO_HANDLER:
        return outcome
    reason = f"no handler for messages of type {message.type!r}"
    ids = {"message_id": message.message_id, "attempt": attempt}
    logger.warning("message %s: %s", message.message_id, storable_text(reason), extra=ids)
    if not last:
        return Outcome.POSTPONED
    return _keep_unhandled(str(message.message_id), delivered, reason, attempt)


def _take_back(message: Message, *, attempt: int, last: bool) -> Outcome:
    ids = {"message_id": message.message_id, "attempt": attempt}
    logger.warning("message %s: %s", message.message_id, CAME_BACK, extra=ids)
    outcomes = [_taken_back(consumer, message, attempt=attempt, last=last) for consumer in handlers_of(message.type)]
    return max(outcomes, default=Outcome.NO_HANDLER)


def _taken_back(consumer: str, message: Message, *, attempt: int, last: bool) -> Outcome:
    message_id = str(message.message_id)
    with Work(Kind.HANDLE, consumer, 1, [message.headers]) as work:
        try:
            if last:
                outcome = keep_dead(consumer, message_id, to_wire(message), CAME_BACK, attempt=attempt)
            else:
                outcome = outcome_on_record(consumer, message_id) or Outcome.POSTPONED
        except EsDjangoError as failure:
            work.error = failure
            outcome = _not_even_kept(message_id, failure)
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
    told = storable_text(error)
    ids = {"consumer": consumer, "message_id": message.message_id, "attempt": attempt}
    logger.warning(
        "consumer %s failed on message %s: %s", consumer, message.message_id, told, exc_info=error, extra=ids
    )
    if is_retryable(error) and not last:
        return Outcome.POSTPONED
    try:
        return bury(consumer, message, error, attempt=attempt)
    except EsDjangoError as failure:
        return _not_even_kept(str(message.message_id), failure)


def _keep_unhandled(message_id: str, content: object, reason: str, attempt: int) -> Outcome:
    try:
        return keep_dead(UNHANDLED, message_id, content, storable_text(reason), attempt=attempt)
    except EsDjangoError as failure:
        return _not_even_kept(message_id, failure)


def _not_even_kept(message_id: str, failure: EsDjangoError) -> Outcome:
    # Given up now, the message would be nowhere.
    logger.warning("message %s cannot be kept as dead: %s", message_id, failure, extra={"message_id": message_id})
    return Outcome.POSTPONED
