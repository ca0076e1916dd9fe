"""Find the message that made a broker refuse a whole batch, so that it does not fail the others."""

from collections.abc import Callable, Sequence

from es_django.messages.message import Message
from es_django.outbox.errors import DestinationUnreachable, PublishError
from es_django.outbox.publishers import Outcomes
from es_django.outbox.publishers.broker_errors import broker_error

Send = Callable[[Sequence[tuple[int, Message]], Outcomes], None]
"""Publishes numbered messages, and writes the known outcomes. It raises if others are unknown."""


def publish_isolated(
    messages: Sequence[Message], send: Send, *, blames: Callable[[Exception], bool]
) -> list[PublishError | None]:
    """Publish the messages, and return an outcome for each.

    If `send` raises an error that may be due to one message, as `blames` says, publish the messages without an outcome
    in two halves, until the message is alone. Other messages may arrive twice.

    Raise `DestinationUnreachable` if `send` raises it before any outcome is known.
    """
    outcomes: Outcomes = {}
    waiting = [list(enumerate(messages))]
    while waiting:
        batch = waiting.pop()
        try:
            send(batch, outcomes)
            error: Exception | None = None
        except Exception as raised:
            error = raised
        unknown = [(index, message) for index, message in batch if index not in outcomes]
        if error is not None and blames(error) and len(unknown) > 1:
            middle = len(unknown) // 2
            waiting += [unknown[middle:], unknown[:middle]]
            continue
        outcome = PublishError("the broker has not confirmed the message") if error is None else broker_error(error)
        if isinstance(error, DestinationUnreachable) and not outcomes:
            raise error
        outcomes.update({index: outcome for index, _ in unknown})
        if isinstance(outcome, DestinationUnreachable):
            left = [index for later in waiting for index, _ in later]
            outcomes.update(dict.fromkeys(left, outcome))
            break
    return [outcomes[index] for index in range(len(messages))]
