"""A message whose handler kills each worker is dead in the end, with a real worker on RabbitMQ."""

from pathlib import Path
from uuid import uuid4

import kombu
import pytest

from es_django import Message
from es_django.inbox.processing import REDELIVERED
from es_django.messages.message import to_wire
from es_django.models import InboxReceipt
from es_django.tasks import handle_message
from testproject.celery import app
from tests.background import Background, environment_of_test_database

pytestmark = pytest.mark.django_db(transaction=True)


class TestDeadlyMessage:
    def test_a_message_that_kills_its_workers_becomes_dead_and_others_are_handled(
        self, rabbitmq_url: str, tmp_path: Path
    ) -> None:
        deaths, name = tmp_path / "deaths", f"es_django.tests.{uuid4().hex}"
        environment = environment_of_test_database() | {
            "CELERY_BROKER_URL": rabbitmq_url,
            "DJANGO_SETTINGS_MODULE": "tests.crash.worker_settings",
            "TEST_QUEUE": name,
            "TEST_DEATHS": str(deaths),
        }
        arguments = ["-m", "celery", "--app", "testproject", "worker", "--concurrency", "1"]
        with kombu.Connection(rabbitmq_url) as broker:
            # as Celery declares it
            queue = kombu.Queue(name, kombu.Exchange(name), routing_key=name, channel=broker.default_channel)
            queue.declare()
            with Background(arguments, environment, tmp_path / "worker.log") as worker:
                for type in ("tests.deadly", "tests.harmless"):
                    message = to_wire(Message(type=type, data=None))
                    app.send_task(handle_message.name, [message], queue=name, connection=broker, retry=False)
                worker.wait_until(lambda: InboxReceipt.objects.count() == 2, timeout=90)
            queue.delete()
            queue.exchange.delete()
        receipts = {receipt.consumer: receipt for receipt in InboxReceipt.objects.all()}
        assert (receipts["harmless"].status, receipts["deadly"].status) == ("handled", "dead")
        assert receipts["deadly"].last_error == REDELIVERED
        assert len(deaths.read_text()) == receipts["deadly"].attempts == 3
