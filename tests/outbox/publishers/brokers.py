"""Brokers and servers to which tests publish messages, with functions that return the arrived messages."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast
from uuid import UUID, uuid4

import kombu
import pytest
from standardwebhooks import Webhook

from es_django.outbox.publishers import Publisher
from tests.outbox.publishers.endpoints import Endpoint
from tests.outbox.publishers.servers import NatsServer

SHIPPED = "es_django.outbox.publishers"
SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


class Broker(NamedTuple):
    publisher: str
    options: dict[str, Any]
    arrived: Callable[[], list[UUID]]
    """Return the ids of all messages that arrived, in order and with repetitions. Call this once only."""

    @property
    def destination(self) -> dict[str, Any]:
        return {"PUBLISHER": f"{SHIPPED}.{self.publisher}", "OPTIONS": self.options}


@contextmanager
def rabbitmq(request: pytest.FixtureRequest) -> Iterator[Broker]:
    url = request.getfixturevalue("rabbitmq_url")
    with kombu.Connection(url) as connection:
        queue = kombu.Queue(f"es_django.tests.{uuid4().hex}", durable=False, channel=connection.default_channel)
        queue.declare()

        def arrived() -> list[UUID]:
            return [_id(delivery.body) for delivery in iter(lambda: queue.get(no_ack=True), None)]

        yield Broker("kombu.KombuPublisher", {"url": url, "routing_key": queue.name}, arrived)
        queue.delete()


@contextmanager
def celery(request: pytest.FixtureRequest) -> Iterator[Broker]:
    url, patch = request.getfixturevalue("rabbitmq_url"), request.getfixturevalue("monkeypatch")
    patch.setenv("CELERY_BROKER_URL", url)
    with kombu.Connection(url) as connection:
        name = f"es_django.tests.{uuid4().hex}"
        # as Celery declares it
        queue = kombu.Queue(name, kombu.Exchange(name), routing_key=name, channel=connection.default_channel)
        queue.declare()

        def arrived() -> list[UUID]:
            deliveries = iter(lambda: queue.get(no_ack=True), None)
            return [UUID(delivery.payload[0][0]["message_id"]) for delivery in deliveries]

        yield Broker("celery.CeleryPublisher", {"queue": name}, arrived)
        queue.delete()
        queue.exchange.delete()


@contextmanager
def redis(request: pytest.FixtureRequest) -> Iterator[Broker]:
    url, queue = request.getfixturevalue("redis_url"), f"es_django.tests.{uuid4().hex}"
    with kombu.Connection(url) as connection:
        client: Any = cast("Any", connection.default_channel).client

        def arrived() -> list[UUID]:
            with connection.SimpleQueue(queue, no_ack=True) as waiting:
                return [_id(waiting.get(timeout=5).body) for _ in range(client.llen(queue))]

        yield Broker("redis.RedisPublisher", {"url": url, "queue": queue}, arrived)
        client.delete(queue)


@contextmanager
def webhook(request: pytest.FixtureRequest) -> Iterator[Broker]:
    with Endpoint() as endpoint:

        def arrived() -> list[UUID]:
            return [UUID(Webhook(SECRET).verify(each.body, each.headers)["id"]) for each in endpoint.requests]

        options = {"url": endpoint.url, "secret": SECRET, "allow_private": True}
        yield Broker("webhook.WebhookPublisher", options, arrived)


@contextmanager
def nats(request: pytest.FixtureRequest) -> Iterator[Broker]:
    folder: Path = request.getfixturevalue("tmp_path")
    with NatsServer(folder / "nats") as server:
        server.run(lambda jetstream: jetstream.add_stream(name="tests", subjects=["tests.>"]))

        def arrived() -> list[UUID]:
            return [_id(each.data) for each in server.stored("tests")]

        yield Broker("nats.NatsPublisher", {"url": server.url, "prefix": "tests"}, arrived)


BROKERS = {"celery": celery, "rabbitmq": rabbitmq, "redis": redis, "webhook": webhook, "nats": nats}


def close(publisher: Publisher) -> None:
    """Close the connection of this thread."""
    for name in ("_connection", "_channel", "_client", "_connections"):
        if name in vars(publisher):
            getattr(publisher, name).discard()


def _id(body: Any) -> UUID:
    return UUID(json.loads(body)["id"])
