"""The Celery task that handles messages: what it leaves with the broker, and how retries are sent."""

from collections.abc import Iterator
from typing import Any, cast
from unittest.mock import Mock
from uuid import uuid4

import kombu
import pytest
from celery import current_app
from celery.exceptions import Reject, SoftTimeLimitExceeded
from celery.signals import before_task_publish

from es_django import StorageError, tasks
from es_django.inbox import attempts
from es_django.inbox.handlers import UNHANDLED
from es_django.messages.message import to_wire
from es_django.models import InboxReceipt
from es_django.tasks import handle_message, retry_handlers
from tests.inbox.deliveries import consumer, effects, failing, make_due, make_message, receipts

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "PAUSE", 0)


def deliver(message: Any, *, queue: str = "celery", redelivered: bool = False, **arguments: Any) -> None:
    """Run the task as a worker does for a delivery of the broker."""
    delivery = {"exchange": "", "routing_key": queue, "priority": 0, "redelivered": redelivered}
    task = cast("Any", handle_message)
    task.push_request(args=[message], kwargs=arguments, delivery_info=delivery, called_directly=False)
    try:
        task.run(message, **arguments)
    finally:
        task.pop_request()


@pytest.fixture
def queue(rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[kombu.Queue]:
    """A queue that accepts one message."""
    monkeypatch.setenv("CELERY_BROKER_URL", rabbitmq_url)
    tasks._retry_connection.discard()
    with kombu.Connection(rabbitmq_url) as connection:
        found = kombu.Queue(
            f"es_django.tests.{uuid4().hex}",
            queue_arguments={"x-max-length": 1, "x-overflow": "reject-publish"},
            channel=connection.default_channel,
        )
        found.declare()
        monkeypatch.setitem(current_app.amqp.queues, found.name, found)
        yield found
        tasks._retry_connection.discard()
        found.delete()


class TestRedelivery:
    @pytest.mark.parametrize("redelivered", [False, True])
    def test_fault_b3_a_message_that_no_worker_had_begun_is_handled_at_once(self, redelivered: bool) -> None:
        consumer("mailer")
        deliver(to_wire(make_message()), redelivered=redelivered)
        assert (effects(), receipts()) == (1, {"mailer": "handled"})
        assert InboxReceipt.objects.get().attempts == 1

    def test_a_message_that_was_handled_before_its_worker_died_is_not_handled_again(self) -> None:
        consumer("mailer")
        message = to_wire(make_message())
        deliver(message)
        deliver(message, redelivered=True)
        assert (effects(), receipts()) == (1, {"mailer": "handled"})

    def test_a_message_that_the_database_cannot_store_goes_back_to_the_broker(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def unreachable(*args: object, **kwargs: object) -> None:
            raise StorageError("begin an attempt", True)

        monkeypatch.setattr(attempts, "begin", unreachable)
        consumer("mailer")
        with pytest.raises(Reject) as rejected:
            deliver(to_wire(make_message()))
        assert rejected.value.requeue  # type: ignore[attr-defined]
        assert [record.levelname for record in caplog.records] == ["WARNING"] * (tasks.TRIES - 1) + ["ERROR"]
        with pytest.raises(StorageError):
            handle_message(to_wire(make_message()))

    def test_a_message_is_stored_as_soon_as_the_database_answers_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        begin, failures = attempts.begin, [StorageError("begin an attempt", True)] * 3

        def recovering(*args: Any, **kwargs: Any) -> Any:
            if failures:
                raise failures.pop()
            return begin(*args, **kwargs)

        monkeypatch.setattr(attempts, "begin", recovering)
        consumer("mailer")
        deliver(to_wire(make_message()))
        assert (effects(), receipts()) == (1, {"mailer": "handled"})

    def test_an_error_that_is_none_of_the_database_returns_the_message_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(attempts, "begin", Mock(side_effect=SoftTimeLimitExceeded()))
        consumer("mailer")
        with pytest.raises(Reject) as rejected:
            deliver(to_wire(make_message()))
        assert rejected.value.requeue  # type: ignore[attr-defined]


class TestRetry:
    def test_fault_b3_a_retry_goes_to_the_queue_of_its_message_and_shows_no_data(self, queue: kombu.Queue) -> None:
        shown: list[str] = []

        def note(headers: Any, **kwargs: object) -> None:
            shown.append(headers["argsrepr"])

        consumer("mailer", failing(TimeoutError("later")))
        message = make_message()
        deliver(to_wire(message), queue=queue.name)
        make_due()
        before_task_publish.connect(note)
        try:
            retry_handlers()
        finally:
            before_task_publish.disconnect(note)
        assert shown == [f"(tests.noted {message.message_id})"]
        task = queue.get(no_ack=True)
        assert task is not None
        (delivered,), arguments, _ = task.decode()
        consumer("mailer")
        deliver(delivered, **arguments)
        assert (effects(), receipts()) == (1, {"mailer": "handled"})

    def test_fault_b3_a_retry_that_the_broker_refuses_waits_in_the_database(self, queue: kombu.Queue) -> None:
        for _ in range(2):
            deliver(to_wire(make_message("nobody.handles_this")), queue=queue.name)
        make_due()
        retry_handlers()
        assert queue.get(no_ack=True) is not None
        assert queue.get(no_ack=True) is None
        assert set(InboxReceipt.objects.values_list("status", "consumer", "attempts")) == {("retrying", UNHANDLED, 1)}
        make_due()
        retry_handlers()
        assert queue.get(no_ack=True) is not None

    def test_fault_b3_a_retry_that_cannot_be_sent_waits_in_the_database(self, monkeypatch: pytest.MonkeyPatch) -> None:
        deliver(to_wire(make_message("nobody.handles_this")))
        monkeypatch.setenv("CELERY_BROKER_URL", "amqp://guest:guest@127.0.0.1:1//")
        tasks._retry_connection.discard()
        make_due()
        retry_handlers()
        assert receipts() == {UNHANDLED: "retrying"}

    def test_fault_e1_an_eager_retry_runs_in_the_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(cast("Any", current_app.conf), "task_always_eager", True)
        consumer("mailer", failing(TimeoutError("later")))
        handle_message(to_wire(make_message()))
        consumer("mailer")
        make_due()
        retry_handlers()
        assert (effects(), receipts()) == (1, {"mailer": "handled"})
