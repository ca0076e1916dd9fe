"""The task that handles messages: what it makes of a delivery whose worker has died."""

from typing import Any, cast

import pytest
from celery.exceptions import Retry
from pytest_django import Settings

from es_django.models import InboxReceipt
from es_django.store.messages import to_wire
from es_django.tasks import handle_message
from tests.inbox.deliveries import consumer, effects, make_message, receipts

pytestmark = pytest.mark.django_db(transaction=True)


def deliver(message: Any, *, retries: int = 0, redelivered: bool = False) -> None:
    """As a worker takes it from a broker."""
    delivery = {"exchange": "", "routing_key": "celery", "redelivered": redelivered}
    task = cast("Any", handle_message)
    task.push_request(args=[message], kwargs={}, retries=retries, delivery_info=delivery, called_directly=False)
    try:
        task.run(message)
    finally:
        task.pop_request()


def test_a_message_whose_worker_died_waits_and_is_handled_later(settings: Settings) -> None:
    settings.ES_DJANGO = {"OUTBOX": {"BACKOFF": {"base": 7}}}
    consumer("mailer")
    message = to_wire(make_message())
    with pytest.raises(Retry) as retry:
        deliver(message, redelivered=True)
    assert retry.value.when == 7
    assert (effects(), receipts()) == (0, {})
    deliver(message, retries=1)
    assert (effects(), receipts()) == (1, {"mailer": "handled"})


def test_a_message_whose_every_worker_died_ends_as_dead(settings: Settings) -> None:
    settings.ES_DJANGO = {"OUTBOX": {"MAX_ATTEMPTS": 3}}
    consumer("mailer")
    deliver(to_wire(make_message()), retries=2, redelivered=True)
    receipt = InboxReceipt.objects.get()
    assert (receipt.status, receipt.attempts, effects()) == ("dead", 3, 0)
    assert "WorkerDied" in receipt.last_error


@pytest.mark.parametrize("retries", [0, 9])
def test_a_message_that_was_handled_before_its_worker_died_is_done(retries: int) -> None:
    consumer("mailer")
    message = to_wire(make_message())
    deliver(message)
    deliver(message, retries=retries, redelivered=True)
    assert (effects(), receipts()) == (1, {"mailer": "handled"})
