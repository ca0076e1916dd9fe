"""Messages that are due are handed over again, once, and handlers that were lost are found."""

from collections.abc import Sequence
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from threading import Event, Thread
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from es_django import Message
from es_django.inbox import attempts, retries
from es_django.inbox.delivery import receive
from es_django.inbox.receipts import Outcome
from es_django.inbox.retries import LOST, Retry, hand_over
from es_django.messages.message import to_wire
from es_django.models import InboxReceipt
from tests.inbox.deliveries import consumer, effects, failing, have_an_effect, make_due, make_message, receipts
from tests.processes import run_processes

pytestmark = pytest.mark.django_db(transaction=True)


class Sent:
    """Take messages as a broker does."""

    def __init__(self, error: Exception | None = None) -> None:
        self.retries: list[Retry] = []
        self.error = error

    def __call__(self, due: Sequence[Retry]) -> list[Exception | None]:
        self.retries += due
        return [self.error] * len(due)

    def deliver(self) -> list[Outcome]:
        return [
            receive(each.content, consumer=each.consumer, after=each.after, route=each.route) for each in self.retries
        ]


def waiting(count: int = 1, *, route: Any = None) -> list[Message]:
    consumer("mailer", failing(TimeoutError("later")))
    messages = [make_message() for _ in range(count)]
    for message in messages:
        receive(to_wire(message), route=route)
    return messages


def lost(count: int = 1) -> Message:
    """Begin attempts, as a worker does that is killed before its handler ends."""
    consumer("mailer")
    message = make_message()
    for _ in range(count):
        begun = attempts.begin("mailer", message, to_wire(message), None)
        assert isinstance(begun, attempts.Attempt)
        make_due()
        if begun.number < count:
            hand_over(Sent())
            make_due()
    return message


def hand_over_at_once(barrier: Barrier) -> list[str]:
    sent = Sent()
    barrier.wait()
    for _ in range(3):
        hand_over(sent)
    return [each.message_id for each in sent.retries]


class TestHandOver:
    def test_fault_f7_without_a_message_that_is_due_one_query_is_made(self) -> None:
        waiting()
        InboxReceipt.objects.update(retry_at=Now() + timedelta(hours=1))
        with CaptureQueriesContext(connection) as queries:
            assert hand_over(Sent()) == 0
        assert len(queries) == 1

    def test_fault_b3_a_message_is_handed_over_when_its_time_has_come(self) -> None:
        (message,), sent = waiting(route={"routing_key": "handlers"}), Sent()
        InboxReceipt.objects.update(retry_at=Now() + timedelta(hours=1))
        assert (hand_over(sent), sent.retries) == (0, [])
        make_due()
        assert hand_over(sent) == 1
        key = str(message.message_id)
        assert sent.retries == [Retry("mailer", key, 1, to_wire(message), {"routing_key": "handlers"})]
        consumer("mailer")
        assert sent.deliver() == [Outcome.HANDLED]
        assert (receipts(), effects()) == ({"mailer": "handled"}, 1)

    def test_fault_b3_a_message_is_not_handed_over_again_while_it_waits_in_its_queue(self) -> None:
        waiting()
        make_due()
        sent = Sent()
        assert [hand_over(sent), hand_over(sent)] == [1, 0]

    def test_fault_b3_a_message_that_the_broker_lost_is_handed_over_again(self) -> None:
        waiting()
        make_due()
        hand_over(Sent())
        make_due()
        sent = Sent()
        assert hand_over(sent) == 1
        consumer("mailer")
        assert sent.deliver() == [Outcome.HANDLED]

    def test_fault_b3_a_message_that_the_broker_refuses_is_handed_over_soon(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        waiting()
        make_due()
        assert hand_over(Sent(ConnectionError("down"))) == 0
        assert "could not be handed to a worker" in caplog.text
        assert InboxReceipt.objects.filter(status="retrying", retry_at__lte=Now() + timedelta(seconds=11)).exists()

    def test_fault_b3_a_backlog_is_handed_over_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(retries, "BATCH", 2)
        messages, sent = waiting(3), Sent()
        make_due()
        assert [hand_over(sent), hand_over(sent), hand_over(sent)] == [2, 1, 0]
        assert {each.message_id for each in sent.retries} == {str(message.message_id) for message in messages}

    @pytest.mark.slow
    def test_fault_b3_concurrent_runs_hand_each_message_over_once(self) -> None:
        messages = waiting(20)
        make_due()
        parts: list[list[str]] = run_processes(hand_over_at_once, [()] * 3)
        assert sorted(key for part in parts for key in part) == sorted(str(message.message_id) for message in messages)


class TestLostHandlers:
    def test_fault_e1_a_handler_that_was_lost_counts_as_an_attempt_and_comes_back(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        lost()
        sent = Sent()
        hand_over(sent)
        receipt = InboxReceipt.objects.get()
        assert (receipt.status, receipt.attempts, receipt.last_error) == ("retrying", 1, LOST)
        assert LOST in caplog.text
        make_due()
        assert hand_over(sent) == 1
        assert sent.deliver() == [Outcome.HANDLED]
        assert effects() == 1

    def test_fault_e1_a_message_that_ends_each_worker_is_dead_after_its_attempts(
        self, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.ES_DJANGO = {"INBOX": {"MAX_ATTEMPTS": 3}}
        message = lost(3)
        hand_over(Sent())
        receipt = InboxReceipt.objects.get()
        assert (receipt.status, receipt.attempts, receipt.last_error) == ("dead", 3, LOST)
        assert receipt.message == to_wire(message)
        assert [each.levelname for each in caplog.records if "which is dead now" in each.getMessage()] == ["ERROR"]

    def test_fault_e1_the_handlers_own_attempts_are_counted_for_a_lost_worker_too(self) -> None:
        consumer("mailer", attempts=1)
        message = make_message()
        attempts.begin("mailer", message, to_wire(message), None)
        make_due()
        hand_over(Sent())
        assert receipts() == {"mailer": "dead"}

    def test_fault_e1_a_handler_before_its_lease_is_left_alone(self) -> None:
        consumer("mailer")
        message = make_message()
        attempts.begin("mailer", message, to_wire(message), None)
        assert hand_over(Sent()) == 0
        assert receive(to_wire(message)) is Outcome.POSTPONED
        assert receipts() == {"mailer": "handling"}

    @pytest.mark.requires_postgresql
    def test_fault_e1_a_handler_that_runs_longer_than_its_lease_is_not_taken_for_lost(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(attempts, "LEASE", 0)
        running, end = Event(), Event()

        def handle(message: Message) -> None:
            running.set()
            assert end.wait(30)
            have_an_effect(message)

        consumer("mailer", handle)
        message = to_wire(make_message())
        outcomes: list[Outcome] = []

        def work() -> None:
            try:
                outcomes.append(receive(message))
            finally:
                connection.close()

        worker = Thread(target=work)
        worker.start()
        try:
            assert running.wait(30)
            assert hand_over(Sent()) == 0
            assert receive(message) is Outcome.POSTPONED
            assert receipts() == {"mailer": "handling"}
        finally:
            end.set()
            worker.join()
        assert (outcomes, receipts(), effects()) == ([Outcome.HANDLED], {"mailer": "handled"}, 1)
