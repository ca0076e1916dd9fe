"""The pytest plugin, which is installed with the package."""

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
    """Return `es_django.testing.outbox_messages`. Call it to get the messages that were written to the outbox."""
    from es_django.testing import outbox_messages

    return outbox_messages
