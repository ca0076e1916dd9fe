"""Every publisher works in every pool of Celery's workers, or is refused with a sentence."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from pytest_django import Settings

from es_django import outbox
from es_django.models import InboxReceipt, OutboxMessage
from testproject.celery import app
from tests.crash.workers import Queue, queue_on
from tests.outbox.publishers.brokers import BROKERS

pytestmark = pytest.mark.django_db(transaction=True)

POOLS = ["prefork", "solo", "threads", "gevent", "eventlet"]
GREEN_POOLS = ["gevent", "eventlet"]


def relay_once(queue: Queue) -> None:
    app.send_task("es_django.relay_outbox", queue=queue.name, connection=queue.broker, retry=False)


def is_published(count: int) -> Callable[[], bool]:
    return lambda: OutboxMessage.objects.filter(status="published").count() == count


@pytest.mark.parametrize("pool", POOLS)
class TestPools:
    def test_fault_e3_every_publisher_leaves_the_orm_of_its_worker_usable(
        self, pool: str, rabbitmq_url: str, settings: Settings, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        with ExitStack() as stack:
            brokers = {name: stack.enter_context(make(request)) for name, make in BROKERS.items()}
            queue = stack.enter_context(queue_on(rabbitmq_url, tmp_path))
            es_django = {"DESTINATIONS": {name: broker.destination for name, broker in brokers.items()}}
            settings.ES_DJANGO = es_django
            log = tmp_path / "worker.log"
            refused = {"nats"} if pool in GREEN_POOLS else set()
            worker = stack.enter_context(
                queue.worker("--pool", pool, "--concurrency", "4", ES_DJANGO=json.loads(json.dumps(es_django)))
            )
            for rounds in (1, 2):
                for name in brokers:
                    outbox.send(name, type="tests.pools", data=name, key=name)
                relay_once(queue)
                worker.wait_until(is_published(rounds * (len(brokers) - len(refused))), timeout=60)
            queue.send("tests.harmless")
            worker.wait_until(lambda: InboxReceipt.objects.filter(status="handled").exists(), timeout=60)
            arrived = {name: len(brokers[name].arrived()) for name in brokers}
        assert arrived == {name: 0 if name in refused else 2 for name in brokers}
        assert "SynchronousOnlyOperation" not in log.read_text()
        assert set(OutboxMessage.objects.exclude(status="published").values_list("destination", "attempts")) == {
            (name, 0) for name in refused
        }
        assert ("NatsPublisher needs an event loop" in log.read_text()) == bool(refused)
