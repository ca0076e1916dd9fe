"""A broker that is reached and accepts no messages has an outage, and a message above its limit fails alone."""

from collections.abc import Iterator
from typing import Any, cast
from uuid import uuid4

import kombu
import pytest
from pytest_django import Settings

from es_django import Message
from es_django.errors import DestinationUnreachable, PublishError
from es_django.outbox.publishers import Publisher, publisher_for
from tests.outbox.publishers.brokers import close
from tests.outbox.publishers.messages import news, permanent
from tests.outbox.publishers.own_servers import OwnRabbitMQ, own_rabbitmq, own_redis

pytestmark = pytest.mark.slow

__all__ = ["own_rabbitmq", "own_redis"]


def outcomes_of(publisher: Publisher, messages: list[Message]) -> list[PublishError | None]:
    try:
        return list(publisher.publish(messages))
    except DestinationUnreachable as error:
        return [error] * len(messages)


def is_outage(outcomes: list[PublishError | None]) -> bool:
    return all(isinstance(outcome, DestinationUnreachable) for outcome in outcomes)


def batch_with(place: int, size: int) -> list[Message]:
    batch = news(5)
    batch[place] = Message(type="city.news", data="x" * size, destination="tests")
    return batch


@pytest.fixture
def queue(own_rabbitmq: OwnRabbitMQ) -> Iterator[str]:
    with kombu.Connection(own_rabbitmq.url) as connection:
        name = f"tests.{uuid4().hex}"
        # as Celery declares it
        queue = kombu.Queue(name, kombu.Exchange(name), routing_key=name, channel=connection.default_channel)
        queue.declare()
        yield name


@pytest.fixture(params=["kombu", "celery"])
def over_rabbitmq(
    request: pytest.FixtureRequest,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    own_rabbitmq: OwnRabbitMQ,
    queue: str,
) -> Iterator[Publisher]:
    monkeypatch.setenv("CELERY_BROKER_URL", own_rabbitmq.url)
    options = {"kombu": {"url": own_rabbitmq.url, "routing_key": queue}, "celery": {"queue": queue}}[request.param]
    name = f"es_django.outbox.publishers.{request.param}.{request.param.title()}Publisher"
    settings.ES_DJANGO = {"DESTINATIONS": {"tests": {"PUBLISHER": name, "OPTIONS": options}}}
    publisher = publisher_for("tests")
    yield publisher
    close(publisher)


class TestRabbitMQ:
    def test_fault_e4_a_memory_alarm_is_an_outage_and_its_end_is_noticed(
        self, over_rabbitmq: Publisher, own_rabbitmq: OwnRabbitMQ
    ) -> None:
        assert outcomes_of(over_rabbitmq, news(2)) == [None, None]
        with own_rabbitmq.memory_alarm():
            for _ in range(2):
                outcomes = outcomes_of(over_rabbitmq, news(3))
                assert is_outage(outcomes)
                assert "blocks publishers" in str(outcomes[0])
        assert outcomes_of(over_rabbitmq, news(2)) == [None, None]

    @pytest.mark.parametrize("place", range(5))
    def test_fault_e13_a_message_above_the_brokers_limit_fails_alone(
        self, over_rabbitmq: Publisher, place: int
    ) -> None:
        outcomes = outcomes_of(over_rabbitmq, batch_with(place, 200_000))
        assert [index for index, outcome in enumerate(outcomes) if outcome is not None] == [place]
        assert permanent(outcomes[place])

    def test_fault_e4_a_full_queue_is_an_outage(self, own_rabbitmq: OwnRabbitMQ, settings: Settings) -> None:
        options = {"url": own_rabbitmq.url, "routing_key": f"tests.{uuid4().hex}"}
        name = "es_django.outbox.publishers.kombu.KombuPublisher"
        settings.ES_DJANGO = {"DESTINATIONS": {"tests": {"PUBLISHER": name, "OPTIONS": options}}}
        publisher = publisher_for("tests")
        assert is_outage(outcomes_of(publisher, news(2))), "the queue is missing"
        with kombu.Connection(own_rabbitmq.url) as connection:
            arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
            channel = connection.default_channel
            kombu.Queue(options["routing_key"], queue_arguments=arguments, channel=channel).declare()
            assert outcomes_of(publisher, news(1)) == [None]
            assert is_outage(outcomes_of(publisher, news(2)))
        close(publisher)


@pytest.fixture(params=["redis", "celery"])
def over_redis(
    request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch, own_redis: str
) -> Iterator[Publisher]:
    monkeypatch.setenv("CELERY_BROKER_URL", own_redis)
    queue = f"tests.{uuid4().hex}"
    options = {"redis": {"url": own_redis, "queue": queue}, "celery": {"queue": queue}}[request.param]
    name = f"es_django.outbox.publishers.{request.param}.{request.param.title()}Publisher"
    settings.ES_DJANGO = {"DESTINATIONS": {"tests": {"PUBLISHER": name, "OPTIONS": options}}}
    publisher = publisher_for("tests")
    yield publisher
    close(publisher)


@pytest.fixture
def redis_client(own_redis: str) -> Iterator[Any]:
    with kombu.Connection(own_redis) as connection:
        client = cast("Any", connection.default_channel).client
        yield client
        client.config_set("maxmemory", "0")
        client.config_set("proto-max-bulk-len", "512mb")
        client.config_set("min-replicas-to-write", "0")
        client.replicaof("NO", "ONE")


class TestRedis:
    @pytest.mark.parametrize(
        ("setting", "value", "word"), [("maxmemory", "1", "maxmemory"), ("min-replicas-to-write", "1", "replicas")]
    )
    def test_fault_e4_a_server_that_refuses_writes_is_an_outage(
        self, over_redis: Publisher, redis_client: Any, setting: str, value: str, word: str
    ) -> None:
        before = redis_client.config_get(setting)[setting]
        redis_client.config_set(setting, value)
        outcomes = outcomes_of(over_redis, news(3))
        assert is_outage(outcomes)
        assert word in str(outcomes[0])
        redis_client.config_set(setting, before)
        assert outcomes_of(over_redis, news(3)) == [None] * 3

    def test_fault_e4_a_replica_after_a_failover_is_an_outage(self, over_redis: Publisher, redis_client: Any) -> None:
        redis_client.replicaof("127.0.0.1", "1")
        outcomes = outcomes_of(over_redis, news(3))
        assert is_outage(outcomes)
        redis_client.replicaof("NO", "ONE")
        assert outcomes_of(over_redis, news(3)) == [None] * 3

    @pytest.mark.parametrize("place", range(5))
    def test_fault_e13_a_message_above_the_servers_limit_fails_alone(
        self, over_redis: Publisher, redis_client: Any, place: int
    ) -> None:
        redis_client.config_set("proto-max-bulk-len", 1024 * 1024)
        outcomes = outcomes_of(over_redis, batch_with(place, 3_000_000))
        assert [index for index, outcome in enumerate(outcomes) if outcome is not None] == [place]
        assert "x" * 50 not in str(outcomes[place])
