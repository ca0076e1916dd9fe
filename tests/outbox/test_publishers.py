"""Publishers against real brokers."""

from collections.abc import Iterator
from uuid import uuid4

import kombu
import pytest

from es_django import Message
from es_django.outbox.publishers.celery import CeleryPublisher
from es_django.outbox.publishers.kombu import KombuPublisher
from es_django.store.messages import from_wire, to_wire


@pytest.fixture
def queue(rabbitmq_url: str) -> Iterator[kombu.Queue]:
    name = f"es_django.tests.{uuid4().hex}"
    exchange = kombu.Exchange(name, type="topic", durable=False, auto_delete=True)
    with kombu.Connection(rabbitmq_url) as connection:
        queue = kombu.Queue(name, exchange, routing_key="told.#", durable=False, channel=connection.default_channel)
        queue.declare()
        yield queue
        queue.delete()


@pytest.fixture
def publisher(queue: kombu.Queue, rabbitmq_url: str) -> Iterator[KombuPublisher]:
    publisher = KombuPublisher(url=rabbitmq_url, exchange=queue.exchange.name)
    yield publisher
    publisher._connection.discard()


def received(queue: kombu.Queue) -> list[Message]:
    messages = []
    while (delivery := queue.get(no_ack=True)) is not None:
        messages.append(from_wire(delivery.payload))
    return messages


def test_rabbitmq_confirms_what_it_has(publisher: KombuPublisher, queue: kombu.Queue) -> None:
    sent = [Message(type="told.news", data={"number": number}, destination="tests") for number in range(20)]
    assert publisher.publish(sent) == [None] * 20
    assert received(queue) == sent


def test_a_message_that_no_queue_takes_is_an_error_and_the_others_are_not(
    publisher: KombuPublisher, queue: kombu.Queue
) -> None:
    sent = [Message(type=type, data=None) for type in ("told.first", "unheard.of", "told.last")]
    first, lost, last = publisher.publish(sent)
    assert (first, last) == (None, None)
    assert lost is not None
    assert "no queue takes it" in str(lost)
    assert [message.type for message in received(queue)] == ["told.first", "told.last"]


def test_a_missing_exchange_is_a_retryable_error(rabbitmq_url: str) -> None:
    publisher = KombuPublisher(url=rabbitmq_url, exchange="es_django.tests.missing")
    first, second = publisher.publish([Message(type="told.news", data=None)] * 2)
    assert first is not None
    assert second is not None
    assert first.retryable
    assert "es_django.tests.missing" in str(first)


def test_after_a_lost_connection_the_next_batch_has_a_fresh_one(publisher: KombuPublisher, queue: kombu.Queue) -> None:
    message = Message(type="told.news", data=None)
    assert publisher.publish([message]) == [None]
    publisher._connection.get().connection.transport.sock.close()
    (lost,) = publisher.publish([message])
    assert lost is not None
    assert lost.retryable
    assert publisher.publish([message]) == [None]
    assert len(received(queue)) == 2


def test_a_broker_that_does_not_answer_is_a_retryable_error() -> None:
    (error,) = KombuPublisher(url="amqp://guest:s3cret@127.0.0.1:1//").publish([Message(type="told", data=None)])
    assert error is not None
    assert error.retryable
    assert "s3cret" not in str(error)


def test_a_message_becomes_the_argument_of_a_celery_task(rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"es_django.tests.{uuid4().hex}"
    monkeypatch.setenv("CELERY_BROKER_URL", rabbitmq_url)
    publisher = CeleryPublisher(queue=name)
    sent = Message(type="told.news", data={"deep": [1, None]}, key="k", destination="tests")
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


def test_a_message_survives_the_wire() -> None:
    message = Message(type="told", data=[1.5, None, "ä"], key="k", headers={"h": "1"}, destination="tests")
    assert from_wire(to_wire(message)) == message
