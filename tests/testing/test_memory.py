"""Without `django_db` these tests could not touch a database."""

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


def test_repositories_and_the_event_store_need_no_database(memory_event_store: MemoryEventStore) -> None:
    ledgers.save(Ledger.open("l-1"))
    assert ledgers.get("l-1").owner == "Ada"
    assert memory_event_store.version(StreamId("ledger", "l-1")) == event_store.version(StreamId("ledger", "l-1")) == 1


def test_a_repository_can_have_a_store_of_its_own(memory_event_store: MemoryEventStore) -> None:
    own = MemoryEventStore()
    Repository(Ledger, store=own).save(Ledger.open("l-1"))
    assert Repository(Ledger, store=own).get("l-1").owner == "Ada"
    assert not ledgers.exists("l-1")


class Log(list[Any]):
    """Counts how often it is looked through."""

    times = 0

    def __iter__(self) -> Iterator[Any]:
        self.times += 1
        return super().__iter__()


def test_an_append_looks_through_the_log_once_however_many_events_it_has() -> None:
    store = MemoryEventStore()
    store._log = log = Log()
    store.append(StreamId("ledger", "l-1"), [Annotated(note=number) for number in range(50)], expected=0)
    assert (len(log), log.times) == (50, 1)


def test_every_test_starts_with_nothing(memory_event_store: MemoryEventStore) -> None:
    assert not ledgers.exists("l-1")
    assert outbox_messages() == []


def test_a_message_of_a_known_id_is_refused(memory_event_store: MemoryEventStore, recorder: type[Recorder]) -> None:
    sent = outbox.send("tests", type="noted", data={"a": 1})
    with pytest.raises(DuplicateMessage):
        outbox.send("tests", type="noted", data={"a": 1}, message_id=sent)
