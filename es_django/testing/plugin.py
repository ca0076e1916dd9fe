"""The pytest plugin; installed with the package."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from es_django.store.memory import MemoryEventStore


@pytest.fixture
def memory_event_store() -> Iterator["MemoryEventStore"]:
    """An event store in memory in place of the database; its `messages` are what was sent."""
    from es_django.testing import in_memory

    with in_memory() as store:
        yield store
