"""If a broker is down, or its connections break, no message is lost and each key keeps its order."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import kombu
import pytest
from django.test import override_settings
from pytest_django import Settings

from es_django.models import OutboxMessage
from es_django.outbox.states import Status
from testproject.celery import app
from tests.crash.deliveries import assert_each_key_is_in_order, send
from tests.crash.proxy import CuttingProxy
from tests.crash.relays import RelayProcess
from tests.processes import run_processes

pytestmark = pytest.mark.django_db(transaction=True)

RABBITMQ = 5672
KEYS = 20
CUTS = [10_000, 40_000, 90_000]


@pytest.fixture
def queue(rabbitmq_url: str) -> Iterator[kombu.Queue]:
    """Declare a queue and an exchange of the same name for one test."""
    name = f"es_django.tests.{uuid4().hex}"
    exchange = kombu.Exchange(name, type="topic", durable=False, auto_delete=True)
    with kombu.Connection(rabbitmq_url) as connection:
        queue = kombu.Queue(name, exchange, routing_key="#", durable=False, channel=connection.default_channel)
        queue.declare()
        yield queue
        queue.delete()


def publishing(queue: kombu.Queue, port: int) -> dict[str, Any]:
    """Return a setting ES_DJANGO that publishes to the queue's exchange through a port."""
    options = {"url": f"amqp://guest:guest@127.0.0.1:{port}//", "exchange": queue.exchange.name}
    publisher = {"PUBLISHER": "es_django.outbox.publishers.kombu.KombuPublisher", "OPTIONS": options}
    limits = {"BATCH_SIZE": 100, "MAX_ATTEMPTS": 1000, "BACKOFF": {"base": 0.05, "max": 0.2}}
    return {"DESTINATIONS": {"tests": publisher}, "OUTBOX": limits}


def all_published() -> bool:
    return not OutboxMessage.objects.exclude(status=Status.PUBLISHED).exists()


def arrivals(queue: kombu.Queue) -> list[tuple[str, int]]:
    """Return the key and the number of each message in the queue, in the order of arrival."""
    sent = {row.message_id: (row.key or "", row.data["number"]) for row in OutboxMessage.objects.all()}
    arrived = []
    while (delivery := queue.get(no_ack=True)) is not None:
        arrived.append(sent[UUID(delivery.properties["message_id"])])
    return arrived


def commit_with_a_dead_broker(barrier: Barrier, es_django: dict[str, Any], keys: list[str]) -> None:
    override_settings(ES_DJANGO=es_django).enable()
    app.conf.update(broker_url=es_django["DESTINATIONS"]["tests"]["OPTIONS"]["url"])
    send(keys)


@contextmanager
def closing_port() -> Iterator[tuple[int, list[int]]]:
    """Yield a port that closes each connection at once, and a list that grows by one for each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connections: list[int] = []

        def close_connections() -> None:
            with suppress(OSError):
                while True:
                    listener.accept()[0].close()
                    connections.append(len(connections))

        thread = threading.Thread(target=close_connections)
        thread.start()
        try:
            yield listener.getsockname()[1], connections
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


class TestBrokenBroker:
    def test_cut_connections_lose_no_message(self, queue: kombu.Queue, settings: Settings, tmp_path: Path) -> None:
        with CuttingProxy(RABBITMQ, cuts=CUTS) as proxy:
            settings.ES_DJANGO = publishing(queue, proxy.port)
            send([f"k-{number % KEYS}" for number in range(1000)])
            with RelayProcess(settings.ES_DJANGO, tmp_path) as process:
                process.wait_until(all_published, timeout=120)
            assert proxy.cut == len(CUTS)
        arrived = arrivals(queue)
        assert len(set(arrived)) == 1000
        assert_each_key_is_in_order(arrived)

    def test_a_commit_succeeds_while_the_broker_is_down_and_its_messages_arrive_later(
        self, queue: kombu.Queue, settings: Settings, tmp_path: Path
    ) -> None:
        with ExitStack() as stack:
            with closing_port() as (port, connections):
                settings.ES_DJANGO = publishing(queue, port)
                settings.ES_DJANGO["OUTBOX"]["MAX_ATTEMPTS"] = attempts = 3
                process = stack.enter_context(RelayProcess(settings.ES_DJANGO, tmp_path))
                run_processes(commit_with_a_dead_broker, [(settings.ES_DJANGO, ["k", "l", "k"])])
                process.wait_until(lambda: len(connections) > 5 * attempts, timeout=60)
            with CuttingProxy(RABBITMQ, port=port):
                process.wait_until(all_published, timeout=60)
                process.kill()  # close the connections first, because the proxy ends only after them
        assert set(OutboxMessage.objects.values_list("attempts", flat=True)) == {1}
        assert arrivals(queue) == [("k", 0), ("l", 1), ("k", 2)]
