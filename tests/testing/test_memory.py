"""The store in memory needs no database: these tests have no `django_db` marker, so a query would fail."""

from collections.abc import Iterator
from typing import Any

import pytest

from es_django import Repository, StreamId, event_store, outbox
from es_django.errors import DuplicateMessage
from es_django.store.memory import MemoryEventStore
from es_django.testing import outbox_messages
from tests.domain import Annotated, Ledger
from tests.publishers import Recorder

ledgers = Repository(Ledger)


class Log(list[Any]):
    """A list that counts how often it is iterated."""

    times = 0

    def __iter__(self) -> Iterator[Any]:
        self.times += 1
        return super().__iter__()


class TestInMemory:
    def test_repositories_and_the_event_store_work_without_a_database(
        self, memory_event_store: MemoryEventStore
    ) -> None:
        ledgers.save(Ledger.open("l-1"))
        assert ledgers.get("l-1").owner == "Ada"
        assert (
            memory_event_store.version(StreamId("ledger", "l-1")) == event_store.version(StreamId("ledger", "l-1")) == 1
        )

    def test_a_repository_can_have_its_own_store(self, memory_event_store: MemoryEventStore) -> None:
        own = MemoryEventStore()
        Repository(Ledger, store=own).save(Ledger.open("l-1"))
        assert Repository(Ledger, store=own).get("l-1").owner == "Ada"
        assert not ledgers.exists("l-1")

    def test_every_test_starts_with_an_empty_store(self, memory_event_store: MemoryEventStore) -> None:
        assert not ledgers.exists("l-1")
        assert outbox_messages() == []


class TestStore:
    def test_an_append_iterates_over_the_log_once_for_any_number_of_events(self) -> None:
        store = MemoryEventStore()
        store._log = log = Log()
        store.append(StreamId("ledger", "l-1"), [Annotated(note=number) for number in range(50)], expected=0)
        assert (len(log), log.times) == (50, 1)

    def test_a_message_with_a_known_id_is_rejected(
        self, memory_event_store: MemoryEventStore, recorder: type[Recorder]
    ) -> None:
        sent = outbox.send("tests", type="noted", data={"a": 1})
        with pytest.raises(DuplicateMessage):
            outbox.send("tests", type="noted", data={"a": 1}, message_id=sent)
