"""The publisher for NATS JetStream works with a real server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from pytest_django import Settings

from es_django import Message
from es_django.errors import DestinationUnreachable
from es_django.messages.message import from_wire
from es_django.outbox.publishers import nats as module
from es_django.outbox.publishers.nats import NatsPublisher
from tests.outbox.publishers.messages import calling, news, permanent, retryable
from tests.outbox.publishers.proxy import Proxy
from tests.outbox.publishers.servers import NatsServer


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def server(shared_server: NatsServer) -> Iterator[NatsServer]:
    """Start a server with the stream "news" for the subjects city.> and messages of up to 10,000 bytes."""
    # The stream is in memory: a stream on disk that is created again at once may still have its former messages.
    config = StreamConfig(name="news", subjects=["city.>", "shop.>"], max_msg_size=10_000, storage=StorageType.MEMORY)
    shared_server.run(lambda stream: stream.add_stream(config))
    yield shared_server
    shared_server.run(lambda stream: stream.delete_stream("news"))


@pytest.fixture
def publisher(server: NatsServer) -> Iterator[NatsPublisher]:
    publisher = NatsPublisher(url=server.url, format="json")
    yield publisher
    publisher._connection.discard()


class TestMessages:
    def test_acknowledged_messages_are_in_the_stream(self, publisher: NatsPublisher, server: NatsServer) -> None:
        sent = news(500)
        assert publisher.publish(sent) == [None] * 500
        stored = server.stored("news")
        assert sorted(from_wire(json.loads(each.data)).message_id for each in stored) == [
            message.message_id for message in sent
        ]
        assert from_wire(json.loads(stored[0].data)) in sent
        assert stored[0].subject == "city.news"

    def test_a_repeated_message_is_stored_once(self, publisher: NatsPublisher, server: NatsServer) -> None:
        sent = news(3)
        assert publisher.publish(sent) == [None] * 3
        assert publisher.publish(sent) == [None] * 3
        assert len(server.stored("news")) == 3

    def test_a_cloudevent_is_sent_in_structured_mode_below_the_prefix(self, server: NatsServer) -> None:
        publisher = NatsPublisher(url=server.url, prefix="shop.orders")
        (message,) = news(1, "paid")
        assert publisher.publish([message]) == [None]
        publisher._connection.discard()
        (stored,) = server.stored("news")
        assert stored.subject == "shop.orders.paid"
        assert stored.headers == {
            "Nats-Msg-Id": str(message.message_id),
            "Content-Type": "application/cloudevents+json",
        }
        assert json.loads(stored.data)["id"] == str(message.message_id)


class TestOutcomes:
    def test_a_subject_without_a_stream_is_a_retryable_error_of_that_message(self, publisher: NatsPublisher) -> None:
        first, lost, last = publisher.publish([*news(1), *news(1, "unheard.of"), *news(1)])
        assert (first, last) == (None, None)
        assert retryable(lost)
        assert "no response from stream" in str(lost)

    @pytest.mark.parametrize(
        "type", ["city.*", "city.>", "city news", "city..news", ".city", "city.", "a\r\nPUB city 0"]
    )
    def test_a_type_that_is_not_a_subject_fails_alone_and_permanently(
        self, publisher: NatsPublisher, type: str
    ) -> None:
        first, bad, last = publisher.publish([*news(1), *news(1, type), *news(1)])
        assert (first, last) == (None, None)
        assert permanent(bad)

    @pytest.mark.parametrize("size", [10_001, 1024 * 1024 - 50, 2 * 1024 * 1024])
    def test_a_message_that_is_too_large_fails_alone_and_permanently(self, publisher: NatsPublisher, size: int) -> None:
        fields = len(publisher._format.encode(Message(type="city.news", data="")))
        large = Message(type="city.news", data="x" * (size - fields))
        first, refused, last = publisher.publish([*news(1), large, *news(1)])
        assert (first, last) == (None, None)
        assert permanent(refused)

    def test_a_full_stream_is_a_retryable_error(self, publisher: NatsPublisher, server: NatsServer) -> None:
        config = StreamConfig(
            name="news", subjects=["city.>"], max_msgs=1, discard=DiscardPolicy.NEW, storage=StorageType.MEMORY
        )
        server.run(lambda stream: stream.update_stream(config))
        assert publisher.publish(news(1)) == [None]
        (full,) = publisher.publish(news(1))
        assert retryable(full)


class TestServerFailures:
    def test_messages_arrive_again_after_the_server_was_killed_and_restarted(self, tmp_path: Path) -> None:
        with NatsServer(tmp_path) as server:
            server.run(lambda stream: stream.add_stream(name="news", subjects=["city.>"]))
            publisher = NatsPublisher(url=server.url, format="json")
            sent = news(4)
            assert publisher.publish(sent[:1]) == [None]
            server.kill()
            assert retryable(*publisher.publish(sent[1:2]))
            with pytest.raises(DestinationUnreachable):
                publisher.publish(sent[1:2])
            server.start()
            assert publisher.publish(sent[1:]) == [None] * 3
            publisher._connection.discard()
            assert len(server.stored("news")) == 4

    def test_a_connection_that_is_lost_during_a_batch_is_an_error_at_once(self, server: NatsServer) -> None:
        with Proxy(server.port) as proxy:
            publisher = NatsPublisher(url=f"nats://127.0.0.1:{proxy.port}", format="json")
            assert publisher.publish(news(1)) == [None]
            sent = news(3)
            publisher._format = calling(lambda message: proxy.cut() if message is sent[2] else None, publisher._format)
            proxy.freeze()
            outcomes = publisher.publish(sent)
            proxy.thaw()
            assert all(retryable(outcome) for outcome in outcomes)
            assert str(outcomes[0]) == "the connection was lost before the stream acknowledged the message"
            assert publisher.publish(news(1)) == [None]
            publisher._connection.discard()

    def test_a_server_that_stops_responding_is_a_retryable_error_within_the_lease(
        self, server: NatsServer, settings: Settings
    ) -> None:
        with Proxy(server.port) as proxy:
            publisher = NatsPublisher(url=f"nats://127.0.0.1:{proxy.port}", format="json")
            assert publisher.publish(news(1)) == [None]
            settings.ES_DJANGO = {"OUTBOX": {"LEASE": 0.4}}
            proxy.freeze()
            outcomes = publisher.publish(news(2))
            proxy.thaw()
            publisher._connection.discard()
        assert all(retryable(outcome) for outcome in outcomes)

    def test_a_server_that_never_responds_is_unreachable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.2)
        with Proxy() as silent, pytest.raises(DestinationUnreachable):
            NatsPublisher(url=f"nats://127.0.0.1:{silent.port}").publish(news(1))

    def test_a_server_that_is_down_is_unreachable_and_the_password_is_not_shown(self) -> None:
        with pytest.raises(DestinationUnreachable, match="ConnectionRefusedError") as caught:
            NatsPublisher(url="nats://user:s3cret@127.0.0.1:1").publish(news(1))
        assert "s3cret" not in str(caught.value)
