"""The publisher of Celery tasks sends many tasks to RabbitMQ before it waits for the first confirm."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID, uuid4

import kombu
import pytest
from celery import current_app
from celery.signals import after_task_publish, before_task_publish
from pytest_django import Settings

from es_django import Message, conf
from es_django.errors import PublishError
from es_django.messages.message import to_wire
from es_django.outbox.publishers import celery as module
from es_django.outbox.publishers.celery import CeleryPublisher
from tests.outbox.publishers.messages import news, retryable
from tests.outbox.publishers.proxy import Proxy
from tests.threads import threads

HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


@pytest.fixture
def queue(rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[kombu.Queue]:
    """Declare a queue as Celery declares it."""
    monkeypatch.setenv("CELERY_BROKER_URL", rabbitmq_url)
    name = f"es_django.tests.{uuid4().hex}"
    with kombu.Connection(rabbitmq_url) as connection:
        queue = kombu.Queue(name, kombu.Exchange(name), routing_key=name, channel=connection.default_channel)
        yield queue
        queue.delete()
        queue.exchange.delete()


@pytest.fixture
def publisher(queue: kombu.Queue) -> Iterator[CeleryPublisher]:
    publisher = CeleryPublisher(queue=queue.name)
    yield publisher
    publisher._connection.discard()


@pytest.fixture
def proxy(publisher: CeleryPublisher, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Run a proxy between the publisher and the broker."""
    with Proxy(5672) as proxy:
        monkeypatch.setenv("CELERY_BROKER_URL", f"amqp://guest:guest@127.0.0.1:{proxy.port}//")
        yield proxy


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Map each message type to a routing key that the project's producer uses instead of Celery's routing key."""
    routes: dict[str, str] = {}

    class Producer(kombu.Producer):
        def publish(self, body: Any, **options: Any) -> None:  # type: ignore[override]
            if isinstance(body, tuple):
                ((message,), *_) = body
                options["routing_key"] = routes.get(message["type"], options["routing_key"])
            super().publish(body, **options)

    monkeypatch.setattr(current_app.amqp, "Producer", Producer)
    return routes


@contextmanager
def before_each_task(function: Callable[[UUID], object]) -> Iterator[None]:
    def call(headers: Any, **kwargs: object) -> None:
        function(UUID(headers["id"]))

    before_task_publish.connect(call)
    try:
        yield
    finally:
        before_task_publish.disconnect(call)


def published_within_the_lease(publisher: CeleryPublisher, messages: list[Message]) -> list[PublishError | None]:
    started = time.monotonic()
    outcomes = list(publisher.publish(messages))
    assert time.monotonic() - started < conf.settings().outbox.lease
    return outcomes


def received(queue: kombu.Queue) -> list[UUID]:
    return [UUID(delivery.headers["id"]) for delivery in iter(lambda: queue.get(no_ack=True), None)]


def ids(messages: list[Message]) -> list[UUID]:
    return [message.message_id for message in messages]


class TestTasks:
    def test_many_tasks_arrive_in_order(self, publisher: CeleryPublisher, queue: kombu.Queue) -> None:
        sent = news(500)
        assert publisher.publish(sent) == [None] * 500
        assert received(queue) == ids(sent)

    def test_monitors_show_the_type_and_id_of_a_message_but_not_its_data(
        self, publisher: CeleryPublisher, queue: kombu.Queue
    ) -> None:
        message = Message(
            type="account.opened", data={"iban": "secret"}, destination="tests", headers={"token": "secret"}
        )
        assert publisher.publish([message]) == [None]
        delivery = queue.get(no_ack=True)
        assert delivery is not None
        assert delivery.headers["argsrepr"] == f"(account.opened {message.message_id})"
        assert "secret" not in str(delivery.headers)

    def test_celery_sends_its_signals_and_a_receiver_that_raises_stops_no_task(
        self, publisher: CeleryPublisher, queue: kombu.Queue
    ) -> None:
        sent, signalled = news(3), list[UUID]()

        def record(headers: Any, **kwargs: object) -> None:
            signalled.append(UUID(headers["id"]))

        def fail(task_id: UUID) -> None:
            raise ValueError(task_id)

        after_task_publish.connect(record)
        try:
            with before_each_task(signalled.append), before_each_task(fail):
                assert publisher.publish(sent) == [None] * 3
        finally:
            after_task_publish.disconnect(record)
        assert signalled == [task_id for each in ids(sent) for task_id in (each, each)]
        assert received(queue) == ids(sent)

    def test_the_task_follows_the_settings_and_signals_of_the_project(
        self, publisher: CeleryPublisher, queue: kombu.Queue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(current_app.conf, "task_compression", "gzip")
        celery_amqp = cast("Any", current_app.amqp)
        # Celery reads the settings only when it creates this function.
        monkeypatch.setattr(celery_amqp, "send_task_message", celery_amqp._create_task_sender())

        def shape(headers: dict[str, Any], properties: dict[str, Any], **kwargs: object) -> None:
            headers["tenant"] = "t-1"
            properties["priority"] = 7

        before_task_publish.connect(shape)
        try:
            sent = news(1)
            assert publisher.publish(sent) == [None]
        finally:
            before_task_publish.disconnect(shape)
        delivery = queue.get(no_ack=True)
        assert delivery is not None
        assert (delivery.headers["compression"], delivery.headers["tenant"]) == ("application/x-gzip", "t-1")
        assert cast("dict[str, Any]", delivery.properties)["priority"] == 7
        assert delivery.payload[0] == [to_wire(sent[0])]


class TestOutcomes:
    @pytest.mark.parametrize("events", [False, True], ids=["tasks alone", "each followed by an event"])
    def test_exactly_the_tasks_that_no_queue_takes_are_errors(
        self,
        events: bool,
        publisher: CeleryPublisher,
        queue: kombu.Queue,
        routes: dict[str, str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(current_app.conf, "task_send_sent_event", events)
        routes["unheard.of"] = f"{queue.name}.nowhere"
        sent = [message for pair in zip(news(150), news(150, "unheard.of"), strict=True) for message in pair]
        outcomes = publisher.publish(sent)
        assert outcomes[::2] == [None] * 150
        assert all(retryable(outcome) and "no queue takes the message" in str(outcome) for outcome in outcomes[1::2])
        assert received(queue) == ids(sent[::2])

    def test_exactly_the_task_that_the_broker_refuses_is_an_error(
        self, publisher: CeleryPublisher, queue: kombu.Queue, routes: dict[str, str]
    ) -> None:
        full = kombu.Queue(
            f"{queue.name}.full",
            durable=False,
            queue_arguments={"x-max-length": 1, "x-overflow": "reject-publish"},
            channel=queue.channel,
        )
        full.declare()
        routes["brief.news"] = full.name
        try:
            assert publisher.publish(news(1, "brief.news")) == [None]
            sent = [*news(3), *news(1, "brief.news"), *news(3)]
            outcomes = publisher.publish(sent)
        finally:
            full.delete()
        assert [index for index, outcome in enumerate(outcomes) if outcome is not None] == [3]
        assert retryable(outcomes[3])
        assert "the broker refused the message" in str(outcomes[3])
        assert received(queue) == ids([*sent[:3], *sent[4:]])

    def test_a_task_that_cannot_be_serialised_fails_alone(
        self, publisher: CeleryPublisher, queue: kombu.Queue, routes: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        routes["unheard.of"] = f"{queue.name}.nowhere"
        first, bad, lost, last = news(1) + news(1) + news(1, "unheard.of") + news(1)

        def spoilt(message: Message) -> dict[str, Any]:
            return {**to_wire(message), "data": object()} if message is bad else to_wire(message)

        monkeypatch.setattr(module, "to_wire", spoilt)
        outcomes = publisher.publish([first, bad, lost, last])
        assert (outcomes[0], outcomes[3]) == (None, None)
        assert "EncodeError" in str(outcomes[1])
        assert "no queue takes the message" in str(outcomes[2])
        assert received(queue) == ids([first, last])

    def test_a_task_that_celery_cannot_send_fails_alone(
        self, publisher: CeleryPublisher, queue: kombu.Queue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent = news(60)

        def unsendable(message: Message) -> dict[str, Any]:
            if message is sent[50]:
                raise ValueError("not to be sent")
            return to_wire(message)

        monkeypatch.setattr(module, "to_wire", unsendable)
        outcomes = publisher.publish(sent)
        others = [index for index in range(60) if index != 50]
        assert [outcomes[index] for index in others] == [None] * 59
        assert retryable(outcomes[50])
        assert "not to be sent" in str(outcomes[50])
        assert received(queue) == ids([sent[index] for index in others])

    def test_a_correlation_id_of_the_project_does_not_hide_which_task_was_confirmed(
        self, publisher: CeleryPublisher, queue: kombu.Queue, routes: dict[str, str]
    ) -> None:
        routes["unheard.of"] = f"{queue.name}.nowhere"

        def correlate(properties: dict[str, Any], **kwargs: object) -> None:
            properties["correlation_id"] = "of-the-request"

        before_task_publish.connect(correlate)
        try:
            outcomes = publisher.publish([*news(20), *news(1, "unheard.of"), *news(20)])
        finally:
            before_task_publish.disconnect(correlate)
        assert [index for index, outcome in enumerate(outcomes) if outcome is not None] == [20]

    def test_a_queue_that_was_declared_differently_is_an_error_at_once(
        self, publisher: CeleryPublisher, queue: kombu.Queue
    ) -> None:
        other = kombu.Queue(queue.name, durable=False, channel=queue.channel)
        other.declare()
        outcomes = published_within_the_lease(publisher, news(2))
        assert all(retryable(outcome) and "PRECONDITION_FAILED" in str(outcome) for outcome in outcomes)
        other.delete()
        assert publisher.publish(news(2)) == [None] * 2


class TestBrokerFailures:
    def test_confirmed_tasks_have_arrived_when_the_connection_is_lost(
        self, publisher: CeleryPublisher, proxy: Proxy, queue: kombu.Queue
    ) -> None:
        sent = news(300)
        with before_each_task(lambda task_id: proxy.cut() if task_id == sent[200].message_id else None):
            outcomes = publisher.publish(sent)
        confirmed = [message for message, outcome in zip(sent, outcomes, strict=True) if outcome is None]
        assert len(confirmed) >= 100
        assert set(ids(confirmed)) <= set(received(queue))
        assert all(retryable(outcome) for outcome in outcomes if outcome is not None)
        assert all(outcome is not None for outcome in outcomes[200:])
        assert publisher.publish(sent[200:]) == [None] * 100

    @pytest.mark.parametrize(
        "options", [{}, {"confirm_publish": True}], ids=["by default", "Celery waits for a confirm"]
    )
    def test_tasks_are_sent_before_the_first_confirm_and_fail_without_their_own(
        self,
        options: dict[str, Any],
        publisher: CeleryPublisher,
        proxy: Proxy,
        queue: kombu.Queue,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(current_app.conf, "broker_transport_options", options)
        first, *others = news(150)
        assert publisher.publish([first]) == [None]
        settings.ES_DJANGO = {"OUTBOX": {"LEASE": 2}}
        proxy.freeze()
        outcomes = published_within_the_lease(publisher, others)
        assert all(retryable(outcome) for outcome in outcomes)
        assert received(queue) == ids([first, *others[:100]])
        proxy.thaw()
        assert publisher.publish(others) == [None] * 149

    def test_a_broker_that_stops_responding_to_a_declaration_is_an_error_within_the_lease(
        self, publisher: CeleryPublisher, proxy: Proxy, settings: Settings
    ) -> None:
        settings.ES_DJANGO = {"OUTBOX": {"LEASE": 1}}
        publisher._connection.get()
        proxy.freeze()
        assert all(retryable(outcome) for outcome in published_within_the_lease(publisher, news(3)))
        proxy.thaw()
        assert publisher.publish(news(3)) == [None] * 3

    def test_a_broker_that_only_sends_heartbeats_is_an_error_within_the_lease(
        self, publisher: CeleryPublisher, proxy: Proxy, settings: Settings
    ) -> None:
        assert publisher.publish(news(1)) == [None]
        settings.ES_DJANGO = {"OUTBOX": {"LEASE": 2}}
        proxy.freeze()
        over = threading.Event()

        def beat() -> None:
            while not over.wait(0.2):
                proxy.send(HEARTBEAT)

        with threads(1) as submit:
            beating = submit(beat)
            try:
                outcomes = published_within_the_lease(publisher, news(3))
            finally:
                over.set()
            beating.result(10)
        assert all(retryable(outcome) for outcome in outcomes)

    def test_a_broker_that_does_not_read_is_an_error_within_the_lease(
        self, publisher: CeleryPublisher, proxy: Proxy, settings: Settings
    ) -> None:
        assert publisher.publish(news(1)) == [None]
        settings.ES_DJANGO = {"OUTBOX": {"LEASE": 1}}
        proxy.jam()
        sent = [Message(type="city.news", data="x" * 1_000_000, destination="tests") for _ in range(20)]
        outcomes = published_within_the_lease(publisher, sent)
        assert all(retryable(outcome) for outcome in outcomes)
        assert "timed out" in str(outcomes[0])
