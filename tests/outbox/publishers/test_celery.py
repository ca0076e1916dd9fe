"""The publisher of Celery tasks works with a real broker."""

from uuid import uuid4

import kombu
import pytest

from es_django import Message
from es_django.errors import DestinationUnreachable
from es_django.messages.message import from_wire
from es_django.outbox.publishers.celery import CeleryPublisher
from tests.outbox.publishers.messages import news


class TestCeleryPublisher:
    def test_a_message_becomes_the_argument_of_a_celery_task(
        self, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = f"es_django.tests.{uuid4().hex}"
        monkeypatch.setenv("CELERY_BROKER_URL", rabbitmq_url)
        publisher = CeleryPublisher(queue=name)
        sent = Message(type="city.news", data={"deep": [1, None]}, key="k", destination="tests")
        with kombu.Connection(rabbitmq_url) as connection:
            queue = kombu.Queue(name, channel=connection.default_channel)
            queue.declare()
            try:
                assert publisher.publish([sent]) == [None]
                delivery = queue.get(no_ack=True)
            finally:
                publisher._connection.discard()
                queue.delete()
        assert delivery is not None
        assert delivery.headers["task"] == "es_django.handle_message"
        assert delivery.headers["id"] == str(sent.message_id)
        (args, _, _) = delivery.payload
        assert from_wire(args[0]) == sent

    def test_a_task_for_a_deleted_queue_fails_and_the_next_attempt_declares_the_queue(
        self, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = f"es_django.tests.{uuid4().hex}"
        monkeypatch.setenv("CELERY_BROKER_URL", rabbitmq_url)
        publisher = CeleryPublisher(queue=name)
        message = Message(type="city.news", data=None, destination="tests")
        with kombu.Connection(rabbitmq_url) as connection:
            queue = kombu.Queue(name, channel=connection.default_channel)
            try:
                assert publisher.publish([message]) == [None]
                queue.delete()
                (error,) = publisher.publish([message])
                assert error is not None
                assert (error.retryable, "no queue takes the message" in str(error)) == (True, True)
                assert publisher.publish([message]) == [None]
                assert queue.get(no_ack=True) is not None
            finally:
                publisher._connection.discard()
                queue.delete()

    def test_a_broker_that_is_down_is_unreachable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CELERY_BROKER_URL", "amqp://guest:guest@127.0.0.1:1//")
        with pytest.raises(DestinationUnreachable, match="refused"):
            CeleryPublisher().publish([Message(type="city.news", data=None, destination="tests")])

    def test_tasks_arrive_in_order_on_a_broker_without_confirms(
        self, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = f"es_django.tests.{uuid4().hex}"
        monkeypatch.setenv("CELERY_BROKER_URL", redis_url)
        publisher = CeleryPublisher(queue=name)
        sent = news(3)
        with kombu.Connection(redis_url) as connection:
            queue = kombu.Queue(name, kombu.Exchange(name), routing_key=name, channel=connection.default_channel)
            try:
                assert publisher.publish(sent) == [None] * 3
                deliveries = list(iter(lambda: queue.get(no_ack=True), None))
            finally:
                publisher._connection.discard()
                queue.delete()
        assert [from_wire(delivery.payload[0][0]) for delivery in deliveries] == sent
