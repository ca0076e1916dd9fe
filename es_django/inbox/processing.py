"""Handle the messages of a sender that keeps each message until it has been handled, such as a sender over HTTP.

A message is never lost: either the sender is asked to send it again, or a dead receipt keeps it.
"""

from es_django.core.errors import EsDjangoError
from es_django.core.instrumentation import Kind, Work
from es_django.core.logs import Log
from es_django.core.serialization import storable_text
from es_django.inbox.handlers import Handler, handlers_of
from es_django.inbox.receipts import Outcome, dead_letter, handle_once
from es_django.inbox.retry_policy import can_retry
from es_django.messages.message import Message

logger: Log = Log("es_django.inbox")


def handle(message: Message) -> Outcome:
    """Run the handler of each consumer of a message, and return the most severe outcome.

    If a handler fails with an error that is not retryable, the message is kept as dead for that consumer. Consumers are
    independent: after POSTPONED, the next delivery runs only handlers whose consumer has no receipt yet.
    """
    handlers = handlers_of(message.type)
    return max((_handle(name, message, each) for name, each in handlers.items()), default=Outcome.NO_HANDLER)


def _handle(consumer: str, message: Message, handler: Handler) -> Outcome:
    with Work(Kind.HANDLE, consumer, 1, [message.headers]) as work:
        try:
            outcome = handle_once(consumer, message, handler)
        except Exception as error:
            work.error = error
            outcome = _failed(consumer, message, handler, error)
        work.outcomes = {outcome.name.lower(): 1}
    return outcome


def _failed(consumer: str, message: Message, handler: Handler, error: Exception) -> Outcome:
    ids = {"consumer": consumer, "message_id": message.message_id}
    known = consumer, message.message_id, storable_text(error)
    if can_retry(error, handler):
        logger.warning("consumer %s failed on message %s: %s", *known, exc_info=error, extra=ids)
        return Outcome.POSTPONED
    logger.error("consumer %s failed on message %s, which is dead now: %s", *known, exc_info=error, extra=ids)
    try:
        return dead_letter(consumer, message, error, attempt=1)
    except EsDjangoError as failure:
        # Without a dead receipt the message would be lost.
        logger.warning(
            "message %s could not be stored as a dead letter, so it is handled again later: %s",
            message.message_id,
            failure,
            extra=ids,
        )
        return Outcome.POSTPONED
