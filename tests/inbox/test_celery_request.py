"""A delivery whose task does not end by itself leaves the broker only if the database keeps its message."""

from typing import Any
from unittest.mock import Mock

import pytest
from celery.contrib.testing.mocks import TaskMessage
from celery.worker import state
from django.db import connection

from es_django import Message, StorageError
from es_django.inbox import celery_request
from es_django.inbox.celery_request import HandlerRequest
from es_django.inbox.delivery import keep_revoked, receive
from es_django.inbox.handlers import UNHANDLED
from es_django.messages.message import to_wire
from es_django.models import InboxReceipt
from es_django.tasks import handle_message
from testproject.celery import app
from tests.inbox.deliveries import consumer, make_message, receipts

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _handler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("es_django.inbox.handlers._handlers", {})
    monkeypatch.setattr(celery_request, "PAUSE", 0)
    consumer("mailer")


class Delivery:
    """A delivery in the main process of a worker, and what the worker has told the broker about it."""

    def __init__(self, message: Message, /, **named: Any) -> None:
        arguments = () if "message" in named else (to_wire(message),)
        sent = TaskMessage("es_django.handle_message", str(message.message_id), arguments, named)
        self.ack, self.reject = Mock(), Mock()
        self.request: Any = HandlerRequest(sent, app=app, task=handle_message, on_ack=self.ack, on_reject=self.reject)

    def revoke(self) -> bool:
        state.revoked.add(self.request.id)
        try:
            return bool(self.request.revoked())
        finally:
            state.revoked.discard(self.request.id)


class TestRevoked:
    @pytest.mark.parametrize("is_named", [False, True])
    def test_fault_e1_a_message_that_was_revoked_before_its_handler_began_is_dead(self, is_named: bool) -> None:
        message = make_message()
        delivery = Delivery(message, **({"message": to_wire(message)} if is_named else {}))
        assert delivery.revoke()
        assert delivery.revoke(), "a second look at the request does nothing"
        delivery.ack.assert_called_once()
        receipt = InboxReceipt.objects.get()
        assert (receipt.status, receipt.consumer, receipt.last_error) == (
            *("dead", "mailer"),
            "Celery ended the task: revoked",
        )

    def test_fault_e1_only_the_consumer_of_a_retry_is_dead(self) -> None:
        consumer("printer")
        Delivery(make_message(), consumer="printer", after=2).revoke()
        assert receipts() == {"printer": "dead"}

    def test_fault_e1_a_message_whose_handler_was_terminated_comes_back(self) -> None:
        delivery = Delivery(make_message())
        delivery.request._announce_revoked("terminated", True, "9", False)
        assert receipts() == {"mailer": "handling"}
        delivery.ack.assert_called_once()

    def test_fault_e1_a_message_that_cannot_be_kept_goes_back_to_the_broker(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*args: object, **named: object) -> None:
            raise StorageError("begin an attempt", True, "down")

        monkeypatch.setattr(celery_request, "keep_revoked", fail)
        delivery = Delivery(make_message())
        delivery.revoke()
        delivery.ack.assert_not_called()
        assert [call.args[-1] for call in delivery.reject.call_args_list] == [True]
        assert "could not be stored, so it goes back to the broker" in caplog.text

    def test_fault_e1_a_rejected_message_always_goes_back_to_the_broker(self) -> None:
        delivery = Delivery(make_message())
        delivery.request.reject(requeue=False)
        assert [call.args[-1] for call in delivery.reject.call_args_list] == [True]

    def test_the_main_process_keeps_no_connection(self) -> None:
        connection.close()
        Delivery(make_message()).revoke()
        assert connection.connection is None
        assert receipts() == {"mailer": "dead"}


class TestKeepRevoked:
    def test_fault_e1_content_that_is_not_a_message_is_kept_as_dead(self) -> None:
        keep_revoked({"type": ["noted"]}, "revoked", begun=False)
        assert receipts() == {UNHANDLED: "dead"}

    def test_fault_e1_a_message_without_a_handler_is_kept_as_dead(self) -> None:
        keep_revoked(to_wire(make_message("tests.unknown")), "revoked", begun=False)
        assert receipts() == {UNHANDLED: "dead"}

    def test_fault_e1_a_message_that_was_handled_stays_handled(self) -> None:
        delivered = to_wire(make_message())
        receive(delivered)
        keep_revoked(delivered, "revoked", begun=False)
        assert receipts() == {"mailer": "handled"}
