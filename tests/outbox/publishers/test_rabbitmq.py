"""The publisher for RabbitMQ works with a real broker."""

import json
from collections.abc import Iterator
from uuid import UUID, uuid4

import kombu
import pytest
from pytest_django import Settings

from es_django import Message
from es_django.errors import DestinationUnreachable, PublishError
from es_django.messages.message import from_wire
from es_django.outbox.publishers import kombu as module
from es_django.outbox.publishers.kombu import KombuPublisher
from tests.outbox.publishers.messages import calling, news, permanent, retryable
from tests.outbox.publishers.proxy import Proxy

NOWHERE = "amqp://guest:s3cret@127.0.0.1:1//"


@pytest.fixture
def queue(rabbitmq_url: str) -> Iterator[kombu.Queue]:
    name = f"es_django.tests.{uuid4().hex}"
    exchange = kombu.Exchange(name, type="topic", durable=False, auto_delete=True)
    with kombu.Connection(rabbitmq_url) as connection:
        queue = kombu.Queue(name, exchange, routing_key="city.#", durable=False, channel=connection.default_channel)
        queue.declare()
        yield queue
        queue.delete()


@pytest.fixture
def publisher(queue: kombu.Queue, rabbitmq_url: str) -> Iterator[KombuPublisher]:
    publisher = KombuPublisher(url=rabbitmq_url, exchange=queue.exchange.name, format="json")
    yield publisher
    publisher._channel.discard()


@pytest.fixture
def proxy(rabbitmq_url: str) -> Iterator[Proxy]:
    with Proxy(5672) as proxy:
        yield proxy


@pytest.fixture
def publisher_through_proxy(queue: kombu.Queue, proxy: Proxy) -> Iterator[KombuPublisher]:
    url = f"amqp://guest:guest@127.0.0.1:{proxy.port}//"
    publisher = KombuPublisher(url=url, exchange=queue.exchange.name, format="json")
    yield publisher
    publisher._channel.discard()


def deliveries(queue: kombu.Queue) -> Iterator[kombu.Message]:
    while (delivery := queue.get(no_ack=True)) is not None:
        yield delivery


def received(queue: kombu.Queue) -> list[Message]:
    return [from_wire(delivery.payload) for delivery in deliveries(queue)]


class TestMessages:
    def test_confirmed_messages_are_in_the_queue(self, publisher: KombuPublisher, queue: kombu.Queue) -> None:
        sent = news(1000)
        assert publisher.publish(sent) == [None] * 1000
        assert received(queue) == sent

    def test_a_message_is_persistent_and_carries_its_id_and_headers(
        self, publisher: KombuPublisher, queue: kombu.Queue
    ) -> None:
        message = Message(type="city.news", data=None, headers={"correlation_id": "c", "ä": "ö"})
        assert publisher.publish([message]) == [None]
        (delivery,) = deliveries(queue)
        assert delivery.properties["message_id"] == str(message.message_id)
        assert str(delivery.properties["delivery_mode"]) == "2"
        assert delivery.headers == {"correlation_id": "c", "ä": "ö"}
        assert (delivery.content_type, delivery.content_encoding) == ("application/json", "utf-8")

    def test_a_cloudevent_is_sent_in_structured_mode(self, rabbitmq_url: str, queue: kombu.Queue) -> None:
        publisher = KombuPublisher(url=rabbitmq_url, exchange=queue.exchange.name)
        (message,) = news(1)
        assert publisher.publish([message]) == [None]
        publisher._channel.discard()
        (delivery,) = deliveries(queue)
        assert delivery.content_type == "application/cloudevents+json"
        event = json.loads(delivery.body or "")
        assert (event["specversion"], event["type"], UUID(event["id"])) == ("1.0", "city.news", message.message_id)

    @pytest.mark.parametrize("size", [1_000, 100_000, 500_000])
    def test_messages_of_any_size_arrive_whole_or_are_returned_if_no_queue_takes_them(
        self, size: int, publisher: KombuPublisher, queue: kombu.Queue
    ) -> None:
        def sized(type: str) -> list[Message]:
            return [Message(type=type, data=f"{number}{'x' * size}") for number in range(20)]

        sent = sized("city.news")
        outcomes = publisher.publish([*sized("unheard.of"), *sent])
        assert all(retryable(outcome) for outcome in outcomes[:20])
        assert outcomes[20:] == [None] * 20
        assert received(queue) == sent

    def test_a_message_that_is_routed_by_its_queue_name_needs_no_exchange(
        self, rabbitmq_url: str, queue: kombu.Queue
    ) -> None:
        publisher = KombuPublisher(url=rabbitmq_url, routing_key=queue.name, format="json")
        sent = news(2)
        assert publisher.publish(sent) == [None, None]
        publisher._channel.discard()
        assert received(queue) == sent


class TestOutcomes:
    def test_exactly_the_messages_that_no_queue_takes_are_errors(
        self, publisher: KombuPublisher, queue: kombu.Queue
    ) -> None:
        sent = [message for pair in zip(news(150), news(150, "unheard.of"), strict=True) for message in pair]
        outcomes = publisher.publish(sent)
        assert outcomes[::2] == [None] * 150
        assert all(retryable(outcome) and "no queue takes the message" in str(outcome) for outcome in outcomes[1::2])
        assert received(queue) == sent[::2]

    def test_exactly_the_message_that_the_broker_refuses_is_an_error(
        self, publisher: KombuPublisher, queue: kombu.Queue
    ) -> None:
        full = kombu.Queue(
            f"{queue.name}.full",
            queue.exchange,
            routing_key="brief.#",
            durable=False,
            queue_arguments={"x-max-length": 1, "x-overflow": "reject-publish"},
            channel=queue.channel,
        )
        full.declare()
        try:
            assert publisher.publish(news(1, "brief.news")) == [None]
            sent = [*news(3), *news(1, "brief.news"), *news(3)]
            outcomes = publisher.publish(sent)
        finally:
            full.delete()
        assert [index for index, outcome in enumerate(outcomes) if outcome is not None] == [3]
        assert retryable(outcomes[3])
        assert "refused" in str(outcomes[3])
        assert received(queue) == [*sent[:3], *sent[4:]]

    def test_a_message_that_amqp_cannot_express_fails_alone_and_permanently(
        self, publisher: KombuPublisher, queue: kombu.Queue
    ) -> None:
        first, last = news(2)
        long_type = Message(type="city." + "ä" * 250, data=None)
        long_header = Message(type="city.news", data=None, headers={"h" * 256: ""})
        outcomes = publisher.publish([first, long_type, long_header, last])
        assert (outcomes[0], outcomes[3]) == (None, None)
        assert all(permanent(outcome) for outcome in outcomes[1:3])
        assert received(queue) == [first, last]

    def test_a_message_whose_headers_exceed_a_frame_fails_alone_and_permanently(
        self, publisher: KombuPublisher, queue: kombu.Queue
    ) -> None:
        first, last = news(2)
        long_headers = Message(type="city.news", data=None, headers={"h": "x" * 200_000})
        outcomes = publisher.publish([first, long_headers, last])
        assert (outcomes[0], outcomes[2]) == (None, None)
        assert permanent(outcomes[1])
        assert received(queue) == [first, last]

    def test_a_message_that_cannot_be_encoded_fails_alone(self, publisher: KombuPublisher, queue: kombu.Queue) -> None:
        first, bad, last = news(3)

        def refuse(message: Message) -> None:
            if message is bad:
                raise PublishError("bad", retryable=False)

        publisher._format = calling(refuse, publisher._format)
        outcomes = publisher.publish([first, bad, last])
        assert [str(outcome) for outcome in outcomes] == ["None", "bad", "None"]
        assert received(queue) == [first, last]

    def test_a_missing_exchange_is_a_retryable_error(self, rabbitmq_url: str) -> None:
        publisher = KombuPublisher(url=rabbitmq_url, exchange="es_django.tests.missing")
        outcomes = publisher.publish(news(2, "city"))
        assert all(retryable(outcome) and "es_django.tests.missing" in str(outcome) for outcome in outcomes)


class TestBrokerFailures:
    def test_the_next_batch_after_a_lost_connection_opens_a_new_connection(
        self, publisher_through_proxy: KombuPublisher, proxy: Proxy, queue: kombu.Queue
    ) -> None:
        (message,) = news(1)
        assert publisher_through_proxy.publish([message]) == [None]
        proxy.cut()
        (lost,) = publisher_through_proxy.publish([message])
        assert retryable(lost)
        assert publisher_through_proxy.publish([message]) == [None]
        assert received(queue) == [message, message]

    def test_confirmed_messages_have_arrived_when_the_connection_is_lost(
        self, publisher_through_proxy: KombuPublisher, proxy: Proxy, queue: kombu.Queue
    ) -> None:
        publisher, sent = publisher_through_proxy, news(300)
        publisher._format = calling(lambda message: proxy.cut() if message is sent[200] else None, publisher._format)
        outcomes = publisher.publish(sent)
        arrived = {message.message_id for message in received(queue)}
        confirmed = {message.message_id for message, outcome in zip(sent, outcomes, strict=True) if outcome is None}
        assert len(confirmed) >= 100
        assert confirmed <= arrived
        assert all(retryable(outcome) for outcome in outcomes if outcome is not None)
        assert retryable(outcomes[200])

    def test_a_broker_that_stops_responding_is_a_retryable_error_within_the_lease(
        self, publisher_through_proxy: KombuPublisher, proxy: Proxy, queue: kombu.Queue, settings: Settings
    ) -> None:
        assert publisher_through_proxy.publish(news(1)) == [None]
        settings.ES_DJANGO = {"OUTBOX": {"LEASE": 0.4}}
        proxy.freeze()
        outcomes = publisher_through_proxy.publish(news(3))
        assert all(retryable(outcome) for outcome in outcomes)
        proxy.thaw()
        settings.ES_DJANGO = {}
        assert publisher_through_proxy.publish(news(1)) == [None]

    def test_a_server_that_never_responds_is_unreachable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.2)
        with Proxy() as silent, pytest.raises(DestinationUnreachable):
            KombuPublisher(url=f"amqp://guest:guest@127.0.0.1:{silent.port}//").publish(news(1))

    def test_a_broker_that_is_down_is_unreachable_and_the_password_is_not_shown(self) -> None:
        with pytest.raises(DestinationUnreachable, match="refused") as caught:
            KombuPublisher(url=NOWHERE).publish(news(1))
        assert "s3cret" not in str(caught.value)
