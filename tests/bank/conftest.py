from collections.abc import Callable, Sequence
from typing import Any

import pytest

from es_django import Message
from es_django.errors import PublishError
from es_django.messages.message import to_wire
from es_django.outbox.publishers import Publisher
from es_django.outbox.relay import relay
from es_django.tasks import handle_message


class HandledHere(Publisher):
    """Publish each message by calling its handlers directly, without a broker."""

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        for message in messages:
            handle_message(to_wire(message))
        return [None] * len(messages)


@pytest.fixture
def deliver(settings: Any) -> Callable[[], int]:
    """Return a function that delivers the outbox messages to the ledger and returns their number."""
    publisher = f"{HandledHere.__module__}.{HandledHere.__qualname__}"
    settings.ES_DJANGO = {"DESTINATIONS": {"ledger": {"PUBLISHER": publisher}}}
    return lambda: relay("ledger")
