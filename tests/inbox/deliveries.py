"""Messages and handlers whose effect can be counted."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Now

from es_django import Message, handles
from es_django.inbox.receipts import dead_letter
from es_django.models import InboxReceipt, ProjectionCheckpoint

TYPE = "tests.noted"


def make_message(type: str = TYPE, **fields: Any) -> Message:
    return Message(**{"type": type, "data": {"number": 1}, "headers": {"correlation_id": "c-1"}, **fields})


def have_an_effect(message: Message) -> None:
    """Have an effect that a test can count: write a row. The choice of the table does not matter."""
    ProjectionCheckpoint.objects.create(name=f"effect {ProjectionCheckpoint.objects.count()}")


def effects() -> int:
    return ProjectionCheckpoint.objects.count()


def failing(error: BaseException) -> Callable[[Message], None]:
    def fail(message: Message) -> None:
        have_an_effect(message)
        raise error

    return fail


def consumer(
    name: str, function: Callable[[Message], None] = have_an_effect, *, type: str = TYPE, **policy: Any
) -> None:
    """Register a handler, and replace the consumer's former handler."""
    from es_django.inbox import handlers

    handlers._handlers.get(type, {}).pop(name, None)
    handles(type, consumer=name, **policy)(function)


def dead(message: Message, name: str = "mailer") -> InboxReceipt:
    dead_letter(name, message, ValueError("a bug"), attempt=3)
    return InboxReceipt.objects.get(consumer=name, message_id=str(message.message_id))


def make_due(waiting: "QuerySet[InboxReceipt] | None" = None) -> None:
    """Let the time of each retry, and the lease of each handler, have come."""
    (InboxReceipt.objects.all() if waiting is None else waiting).filter(retry_at__isnull=False).update(retry_at=Now())


def receipts() -> dict[str, str]:
    """Return the status of each consumer's receipt."""
    return dict(InboxReceipt.objects.values_list("consumer", "status"))
