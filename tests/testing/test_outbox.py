"""`outbox_messages` captures the same messages in memory and in the database of a test."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from es_django import Message, StreamId, event_store, outbox
from es_django.core.metadata import metadata
from es_django.testing import in_memory
from tests.outbox.published import Announced

pytestmark = pytest.mark.usefixtures("recorder")

STREAM = StreamId("ledger", "l-1")
Captured = Callable[[], list[Message]]


@pytest.fixture(params=["memory", "database"], autouse=True)
def _store(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "database":
        request.getfixturevalue("db")
        yield
    else:
        with in_memory():
            yield


class TestOutboxMessages:
    def test_messages_of_events_and_of_code_are_captured_in_order(self, outbox_messages: Captured) -> None:
        assert outbox_messages() == []
        with metadata(correlation_id="c-1"):
            (recorded,) = event_store.append(STREAM, [Announced(text="news")], expected=0)
        sent = outbox.send("tests", type="noted", data=[1], key="k", headers={"a": "b"}, delay=timedelta(days=3))
        first, second = outbox_messages()
        assert first == Message(
            type="tests.announced",
            data={"text": "news"},
            key="l-1",
            headers={"correlation_id": "c-1", "causation_id": str(recorded.event_id)},
            message_id=first.message_id,
            destination="tests",
            stream=STREAM,
            stream_version=1,
        )
        assert second == Message(
            type="noted",
            data=[1],
            key="k",
            headers={"a": "b"},
            delay=timedelta(days=3),
            message_id=sent,
            destination="tests",
        )

    def test_data_are_captured_as_a_handler_receives_them(self, outbox_messages: Captured) -> None:
        data = {"at": datetime(2026, 1, 1, tzinfo=UTC), "amount": Decimal("1.50"), "pair": (1, None)}
        outbox.send("tests", type="noted", data=data)
        assert outbox_messages()[0].data == {"at": "2026-01-01T00:00:00Z", "amount": "1.50", "pair": [1, None]}

    def test_messages_of_a_rolled_back_transaction_are_not_captured(self, outbox_messages: Captured) -> None:
        with pytest.raises(KeyError), event_store.transaction():
            event_store.append(STREAM, [Announced(text="news")], expected=0)
            assert len(outbox_messages()) == 1
            raise KeyError
        assert outbox_messages() == []
