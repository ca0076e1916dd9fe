"""The pytest plugin of es_django. pytest finds it through the entry point of the package."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from es_django import Message
    from es_django.store.memory import MemoryEventStore


@pytest.fixture
def memory_event_store() -> Iterator["MemoryEventStore"]:
    """Use an event store in memory in place of the database."""
    from es_django.testing import in_memory

    with in_memory() as store:
        yield store


@pytest.fixture
def outbox_messages() -> "Callable[[], list[Message]]":
    """Return the function `es_django.testing.outbox_messages`, which returns the messages in the outbox."""
    from es_django.testing import outbox_messages

    return outbox_messages
