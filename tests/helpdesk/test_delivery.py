from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import kombu
import pytest
from django.core.management import call_command
from django.db.models import Max, QuerySet

from es_django.models import InboxReceipt, OutboxMessage, ProjectionCheckpoint, StoredEvent, Stream
from testproject.helpdesk.models import ClosingNotice, StepCount, TicketStatus
from tests.background import environment_of_test_database
from tests.helpdesk.logs import column
from tests.helpdesk.worker import Worker


class Queue:
    """Create a RabbitMQ queue for this test only."""

    def __init__(self, connection: kombu.Connection) -> None:
        self.name = f"helpdesk-{uuid4().hex}"
        self._channel: Any = connection.default_channel
        # as Celery declares it
        kombu.Queue(self.name, kombu.Exchange(self.name), routing_key=self.name)(self._channel).declare()

    def waiting(self) -> int:
        """Return the number of messages and tasks in the queue, without those that a worker holds."""
        return int(self._channel.queue_declare(self.name, passive=True).message_count)

    def delete(self) -> None:
        self._channel.queue_delete(self.name)
        self._channel.exchange_delete(self.name)


@pytest.fixture
def queue(rabbitmq_url: str) -> Iterator[Queue]:
    with kombu.Connection(rabbitmq_url, connect_timeout=5) as connection:
        queue = Queue(connection)
        yield queue
        queue.delete()


def _messages(*statuses: str) -> QuerySet[OutboxMessage]:
    return OutboxMessage.objects.filter(status__in=statuses)


def _notices() -> int:
    return ClosingNotice.objects.count()


def _projection_is_at_the_end() -> bool:
    end = StoredEvent.objects.aggregate(end=Max("position"))["end"]
    return ProjectionCheckpoint.objects.filter(name="helpdesk.steps", position__gte=end).exists()


class TestDelivery:
    @pytest.mark.django_db(transaction=True)
    @pytest.mark.slow
    def test_every_message_has_one_effect_while_workers_are_killed(
        self, rabbitmq_url: str, queue: Queue, real_log: Path, tmp_path: Path
    ) -> None:
        steps = Counter(column(real_log, "concept:name"))
        cases = set(column(real_log, "case:concept:name"))
        closings = steps["Closed"]
        environment = environment_of_test_database() | {
            "CELERY_BROKER_URL": rabbitmq_url,
            "DJANGO_SETTINGS_MODULE": "tests.helpdesk.worker_settings",
            "TEST_QUEUE": queue.name,
        }

        with Worker(environment, tmp_path) as worker:
            call_command("load_tickets", str(real_log))

            # More tasks arrived than messages are settled. The margin of 20 covers the tasks of beat.
            def is_publishing() -> bool:
                return (
                    queue.waiting() + _notices() > _messages("published").count() + 20 and _messages("claimed").exists()
                )

            worker.wait_until(is_publishing, timeout=60)
            worker.kill()
        unsettled = set(_messages("claimed").values_list("message_id", flat=True))
        assert unsettled, "the relay was not killed between a publish and its settling"

        with Worker(environment, tmp_path) as worker:
            worker.wait_until(lambda: _notices() > closings / 3, timeout=120)
            worker.kill()
        assert _notices() < closings, "the worker was not killed before it had handled all messages"

        with Worker(environment, tmp_path) as worker:
            worker.wait_until(
                lambda: not _messages("pending", "claimed").exists() and _notices() >= closings, timeout=180
            )
            worker.wait_until(_projection_is_at_the_end, timeout=60)

        assert Stream.objects.count() == len(cases)
        assert StoredEvent.objects.count() == steps.total()
        assert dict(StepCount.objects.values_list("name", "count")) == steps
        assert TicketStatus.objects.count() == len(cases)
        assert _messages("published").count() == OutboxMessage.objects.count() == closings
        assert not OutboxMessage.objects.filter(message_id__in=unsettled, attempts=1).exists()
        assert InboxReceipt.objects.filter(status="handled").count() == InboxReceipt.objects.count() == closings
        notified = Counter(ClosingNotice.objects.values_list("message_id", flat=True))
        assert notified == Counter(OutboxMessage.objects.values_list("message_id", flat=True))
        # A second handling would violate the unique key of the table, and the worker would log the error.
        assert ClosingNotice._meta.db_table not in worker.log.read_text()
