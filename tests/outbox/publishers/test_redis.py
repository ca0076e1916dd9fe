"""The publisher for a queue in Redis works with a real server."""

import json
from collections.abc import Iterator
from typing import Any, cast
from uuid import uuid4

import kombu
import pytest
from pytest_django import Settings

from es_django.errors import DestinationUnreachable
from es_django.messages.message import from_wire
from es_django.outbox.publishers import redis as module
from es_django.outbox.publishers.redis import RedisPublisher
from tests.outbox.publishers.messages import news, retryable
from tests.outbox.publishers.proxy import Proxy


@pytest.fixture
def queue(redis_url: str) -> Iterator[str]:
    name = f"es_django.tests.{uuid4().hex}"
    yield name
    with kombu.Connection(redis_url) as connection:
        client(connection).delete(name)


@pytest.fixture
def publisher(redis_url: str, queue: str) -> Iterator[RedisPublisher]:
    publisher = RedisPublisher(url=redis_url, queue=queue, format="json")
    yield publisher
    publisher._connection.discard()


def client(connection: kombu.Connection) -> Any:
    return cast("Any", connection.default_channel).client


def deliveries(url: str, queue: str) -> list[kombu.Message]:
    """Return the messages that a consumer of kombu gets, even if it starts after the publisher."""
    found: list[kombu.Message] = []
    with kombu.Connection(url) as connection, connection.SimpleQueue(queue) as waiting:
        for _ in range(client(connection).llen(queue)):
            found.append(waiting.get(timeout=5))
            found[-1].ack()
    return found


class TestMessages:
    def test_published_messages_are_in_the_queue_in_order(
        self, publisher: RedisPublisher, redis_url: str, queue: str
    ) -> None:
        sent = news(300)
        assert publisher.publish(sent) == [None] * 300
        found = deliveries(redis_url, queue)
        assert [from_wire(delivery.payload) for delivery in found] == sent
        assert found[0].properties["message_id"] == str(sent[0].message_id)

    def test_a_cloudevent_is_sent_in_structured_mode(self, redis_url: str, queue: str) -> None:
        publisher = RedisPublisher(url=redis_url, queue=queue)
        (message,) = news(1)
        assert publisher.publish([message]) == [None]
        publisher._connection.discard()
        (delivery,) = deliveries(redis_url, queue)
        assert delivery.content_type == "application/cloudevents+json"
        assert json.loads(delivery.body or "")["id"] == str(message.message_id)


class TestServerFailures:
    def test_a_message_that_redis_refuses_is_a_retryable_error(
        self, publisher: RedisPublisher, redis_url: str, queue: str
    ) -> None:
        with kombu.Connection(redis_url) as connection:
            client(connection).set(queue, "not a list")
        (outcome,) = publisher.publish(news(1))
        assert retryable(outcome)
        assert "WRONGTYPE" in str(outcome)

    def test_the_next_batch_after_a_lost_connection_has_a_new_one(self, redis_url: str, queue: str) -> None:
        with Proxy(6379) as proxy:
            publisher = RedisPublisher(url=f"redis://127.0.0.1:{proxy.port}/15", queue=queue, format="json")
            assert publisher.publish(news(1)) == [None]
            proxy.cut()
            outcomes = publisher.publish(news(2))
            assert all(outcome is None or retryable(outcome) for outcome in outcomes)
            assert publisher.publish(news(1)) == [None]
            publisher._connection.discard()
        assert len(deliveries(redis_url, queue)) == 2 + outcomes.count(None)

    def test_a_server_that_stops_responding_is_a_retryable_error_within_the_lease(
        self, redis_url: str, queue: str, settings: Settings
    ) -> None:
        settings.ES_DJANGO = {"OUTBOX": {"LEASE": 0.4}}
        with Proxy(6379) as proxy:
            publisher = RedisPublisher(url=f"redis://127.0.0.1:{proxy.port}/15", queue=queue)
            assert publisher.publish(news(1)) == [None]
            proxy.freeze()
            outcomes = publisher.publish(news(2))
        assert all(retryable(outcome) for outcome in outcomes)

    def test_a_server_that_never_responds_is_unreachable(
        self, monkeypatch: pytest.MonkeyPatch, settings: Settings
    ) -> None:
        settings.ES_DJANGO = {"OUTBOX": {"LEASE": 0.4}}
        monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.2)
        with Proxy() as silent, pytest.raises(DestinationUnreachable):
            RedisPublisher(url=f"redis://127.0.0.1:{silent.port}", queue="q").publish(news(1))

    def test_a_server_that_is_down_is_unreachable_and_the_password_is_not_shown(self) -> None:
        with pytest.raises(DestinationUnreachable, match="refused") as caught:
            RedisPublisher(url="redis://:s3cret@127.0.0.1:1/0", queue="q").publish(news(1))
        assert "s3cret" not in str(caught.value)
