"""Without `django_db` these tests could not touch a database."""

import pytest

from es_django import Repository, StreamId, event_store, outbox
from es_django.errors import DuplicateMessage
from es_django.store.memory import MemoryEventStore
from tests.domain import Ledger
from tests.outbox.published import Told
from tests.publishers import Recorder

ledgers = Repository(Ledger)


def test_repositories_and_the_event_store_need_no_database(memory_event_store: MemoryEventStore) -> None:
    ledgers.save(Ledger.open("l-1"))
    assert ledgers.get("l-1").owner == "Ada"
    assert memory_event_store.version(StreamId("ledger", "l-1")) == event_store.version(StreamId("ledger", "l-1")) == 1


def test_every_test_starts_with_nothing(memory_event_store: MemoryEventStore) -> None:
    assert not ledgers.exists("l-1")
    assert memory_event_store.messages == []


def test_messages_are_captured(memory_event_store: MemoryEventStore, recorder: type[Recorder]) -> None:
    stream = StreamId("ledger", "l-1")
    event_store.append(stream, [Told(text="news")], expected=0)
    sent = outbox.send("tests", type="noted", data={"a": 1})
    first, second = memory_event_store.messages
    assert (first.type, first.data, first.stream, first.stream_version) == ("tests.told", {"text": "news"}, stream, 1)
    assert (second.message_id, second.stream) == (sent, None)
    with pytest.raises(DuplicateMessage):
        outbox.send("tests", type="noted", data={"a": 1}, message_id=sent)


def test_what_is_rolled_back_is_not_captured(memory_event_store: MemoryEventStore, recorder: type[Recorder]) -> None:
    with pytest.raises(KeyError), event_store.transaction():
        event_store.append(StreamId("ledger", "l-1"), [Told(text="news")], expected=0)
        raise KeyError
    assert memory_event_store.messages == []
