"""The Celery task that handles messages: redeliveries after a worker died, and retries."""

from collections.abc import Iterator
from typing import Any, cast
from uuid import uuid4

import kombu
import pytest
from celery import current_app
from celery.exceptions import Reject, Retry
from celery.signals import before_task_publish
from pytest_django import Settings

from es_django import StorageError, tasks
from es_django.inbox import processing
from es_django.messages.message import to_wire
from es_django.models import InboxReceipt
from es_django.tasks import handle_message
from tests.inbox.deliveries import consumer, effects, make_message, receipts

pytestmark = pytest.mark.django_db(transaction=True)


SHOWN = "(noted m-1)"


def deliver(message: Any, *, retries: int = 0, redelivered: bool = False, queue: str = "celery") -> None:
    """Run the task as a worker does for a delivery of the broker."""
    delivery = {"exchange": "", "routing_key": queue, "redelivered": redelivered}
    request = {"retries": retries, "delivery_info": delivery, "called_directly": False, "argsrepr": SHOWN}
    task = cast("Any", handle_message)
    task.push_request(args=[message], kwargs={}, **request)
    try:
        task.run(message)
    finally:
        task.pop_request()


@pytest.fixture
def full_queue(rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[kombu.Queue]:
    """A queue that accepts one message."""
    monkeypatch.setenv("CELERY_BROKER_URL", rabbitmq_url)
    tasks._retry_connection.discard()
    with kombu.Connection(rabbitmq_url) as connection:
        queue = kombu.Queue(
            f"es_django.tests.{uuid4().hex}",
            queue_arguments={"x-max-length": 1, "x-overflow": "reject-publish"},
            channel=connection.default_channel,
        )
        queue.declare()
        monkeypatch.setitem(current_app.amqp.queues, queue.name, queue)
        yield queue
        tasks._retry_connection.discard()
        queue.delete()


class TestRedelivery:
    def test_a_message_whose_worker_died_waits_and_is_handled_later(self, settings: Settings) -> None:
        settings.ES_DJANGO = {"OUTBOX": {"BACKOFF": {"base": 7}}}
        consumer("mailer")
        message = to_wire(make_message())
        with pytest.raises(Retry) as retry:
            deliver(message, redelivered=True)
        assert retry.value.when == 7
        assert (effects(), receipts()) == (0, {})
        deliver(message, retries=1)
        assert (effects(), receipts()) == (1, {"mailer": "handled"})

    def test_a_message_whose_workers_all_died_becomes_dead(self, settings: Settings) -> None:
        settings.ES_DJANGO = {"OUTBOX": {"MAX_ATTEMPTS": 3}}
        consumer("mailer")
        deliver(to_wire(make_message()), retries=2, redelivered=True)
        receipt = InboxReceipt.objects.get()
        assert (receipt.status, receipt.attempts, effects()) == ("dead", 3, 0)
        assert receipt.last_error == "a worker stopped or died while it had this message"

    @pytest.mark.parametrize("retries", [0, 9])
    def test_a_message_that_was_handled_before_its_worker_died_is_not_handled_again(self, retries: int) -> None:
        consumer("mailer")
        message = to_wire(make_message())
        deliver(message)
        deliver(message, retries=retries, redelivered=True)
        assert (effects(), receipts()) == (1, {"mailer": "handled"})

    def test_a_redelivered_message_gets_a_second_attempt_even_if_one_is_the_limit(
        self, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.ES_DJANGO = {"OUTBOX": {"MAX_ATTEMPTS": 1}}
        consumer("mailer")
        message = make_message()
        with pytest.raises(Retry):
            deliver(to_wire(message), redelivered=True)
        (record,) = (record for record in caplog.records if record.name == "es_django.inbox")
        assert (
            record.getMessage() == f"message {message.message_id}: a worker stopped or died while it had this message"
        )
        assert record.exc_info is None
        deliver(to_wire(message), retries=1)
        assert (effects(), receipts()) == (1, {"mailer": "handled"})

    def test_a_message_that_is_redelivered_twice_is_dead(self, settings: Settings) -> None:
        settings.ES_DJANGO = {"OUTBOX": {"MAX_ATTEMPTS": 1}}
        consumer("mailer")
        deliver(to_wire(make_message()), retries=1, redelivered=True)
        assert (effects(), receipts()) == (0, {"mailer": "dead"})

    @pytest.mark.parametrize("retries", [0, 9])
    def test_a_redelivered_message_is_retried_if_the_database_fails(
        self, retries: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unreachable(*args: object, **kwargs: object) -> None:
            raise StorageError("look up a receipt", True)

        monkeypatch.setattr(processing, "outcome_of_receipt", unreachable)
        monkeypatch.setattr(processing, "dead_letter", unreachable)
        consumer("mailer")
        with pytest.raises(Retry):
            deliver(to_wire(make_message()), retries=retries, redelivered=True)


class TestRetry:
    def test_a_retry_shows_no_more_of_its_message_than_the_first_attempt(self) -> None:
        shown: list[str] = []

        def note(headers: Any, **kwargs: object) -> None:
            shown.append(headers["argsrepr"])

        before_task_publish.connect(note)
        try:
            with pytest.raises(Retry):
                deliver(to_wire(make_message()), redelivered=True)
        finally:
            before_task_publish.disconnect(note)
        assert shown == [SHOWN]

    def test_a_retry_that_the_broker_refuses_leaves_the_message_with_the_broker(
        self, full_queue: kombu.Queue, settings: Settings
    ) -> None:
        message = to_wire(make_message("nobody.handles_this"))
        with pytest.raises(Retry):
            deliver(message, queue=full_queue.name)
        with pytest.raises(Reject) as rejected:
            deliver(message, queue=full_queue.name)
        assert rejected.value.requeue  # type: ignore[attr-defined]
        assert full_queue.get(no_ack=True) is not None
        with pytest.raises(Retry):
            deliver(message, queue=full_queue.name)

    def test_a_retry_that_cannot_be_sent_leaves_the_message_with_the_broker(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CELERY_BROKER_URL", "amqp://guest:guest@127.0.0.1:1//")
        tasks._retry_connection.discard()
        with pytest.raises(Reject, match="refused") as rejected:
            deliver(to_wire(make_message("nobody.handles_this")))
        assert rejected.value.requeue  # type: ignore[attr-defined]
