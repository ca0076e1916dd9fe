"""A real worker on a real broker, with a queue of its own."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import kombu
from django.db.models.functions import Now

from es_django import Message
from es_django.inbox.attempts import LEASE
from es_django.inbox.retries import HANDOVER
from es_django.messages.message import to_wire
from es_django.models import InboxReceipt
from es_django.tasks import handle_message
from testproject.celery import app
from tests.background import Background, environment_of_test_database
from tests.inbox.deliveries import make_due


class Queue:
    """The queue of a test: it starts workers, and sends messages to them."""

    def __init__(self, broker: kombu.Connection, folder: Path) -> None:
        self.broker = broker
        self.name = f"es_django.tests.{uuid4().hex}"
        self.folder = folder
        # as Celery declares it
        self.queue = kombu.Queue(
            self.name, kombu.Exchange(self.name), routing_key=self.name, channel=broker.default_channel
        )
        self.queue.declare()

    def worker(self, *arguments: str, **settings: Any) -> Background:
        environment = environment_of_test_database() | {
            "CELERY_BROKER_URL": self.broker.as_uri(include_password=True),
            "DJANGO_SETTINGS_MODULE": "tests.crash.worker_settings",
            "TEST_QUEUE": self.name,
            "TEST_DEATHS": str(self.folder),
            "TEST_SETTINGS": json.dumps(settings),
        }
        # Neither an event nor a remote control reaches the workers of other tests.
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--hostname", f"{uuid4().hex}@test")
        command = ["-m", "celery", "--app", "testproject", "worker", *quiet, *arguments]
        return Background(command, environment, self.folder / "worker.log")

    def send(self, type: str, data: Any = None) -> Message:
        message = Message(type=type, data=data)
        app.send_task(
            handle_message.name,
            [to_wire(message)],
            task_id=str(message.message_id),
            queue=self.name,
            connection=self.broker,
            retry=False,
        )
        return message

    def wait(self, worker: Background, condition: Callable[[], bool], *, timeout: float = 60) -> None:
        """Hand messages over again as a sweep does, without a pause, until the condition holds."""
        from es_django.tasks import retry_handlers

        def swept() -> bool:
            # Send a message again that no worker took, but do not flood the queue with copies.
            sent_before = Now() + timedelta(seconds=HANDOVER - 15)
            make_due(InboxReceipt.objects.filter(status="retrying", retry_at__lte=sent_before))
            # Leave a worker the time to begin its handler's transaction.
            begun_before = Now() + timedelta(seconds=LEASE - 1)
            make_due(InboxReceipt.objects.filter(status="handling", retry_at__lte=begun_before))
            retry_handlers()
            return condition()

        worker.wait_until(swept, timeout=timeout)


@contextmanager
def queue_on(url: str, folder: Path) -> Iterator[Queue]:
    """Make a queue on the broker, and use the broker for what this process sends."""
    from es_django import tasks

    before = os.environ["CELERY_BROKER_URL"]
    os.environ["CELERY_BROKER_URL"] = url
    tasks._retry_connection.discard()
    with kombu.Connection(url) as broker:
        queue = Queue(broker, folder)
        try:
            yield queue
        finally:
            os.environ["CELERY_BROKER_URL"] = before
            tasks._retry_connection.discard()
            queue.queue.delete()
            if broker.transport.driver_name == "py-amqp":
                queue.queue.exchange.delete()
