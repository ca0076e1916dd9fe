"""A message that a broker delivers is handled, waits for its retry in the database, or is kept as dead."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from pytest_django import Settings

from es_django import HandlerRejected, HandlerRetry, Message, StorageError
from es_django.inbox import attempts, delivery
from es_django.inbox.delivery import receive
from es_django.inbox.handlers import UNHANDLED
from es_django.inbox.receipts import Outcome, content_of
from es_django.messages.message import to_wire
from es_django.models import InboxReceipt
from es_django.tasks import handle_message
from tests.inbox.deliveries import consumer, effects, failing, make_due, make_message, receipts

pytestmark = pytest.mark.django_db(transaction=True)


class TestReceive:
    def test_a_message_takes_effect_once_however_often_it_is_delivered(self) -> None:
        consumer("mailer")
        message = to_wire(make_message())
        assert [receive(message), receive(message)] == [Outcome.HANDLED, Outcome.REPEATED]
        receipt = InboxReceipt.objects.get()
        assert (receipt.status, receipt.attempts, receipt.message, receipt.retry_at) == ("handled", 1, None, None)
        assert effects() == 1

    def test_a_message_without_a_handler_waits_for_one_to_be_deployed(self, caplog: pytest.LogCaptureFixture) -> None:
        message = to_wire(make_message())
        assert receive(message) is Outcome.POSTPONED
        assert "no handler for messages of type 'tests.noted'" in caplog.text
        assert receipts() == {UNHANDLED: "retrying"}
        consumer("mailer")
        assert receive(message, consumer=UNHANDLED, after=1) is Outcome.HANDLED
        assert (receipts(), effects()) == ({UNHANDLED: "handled", "mailer": "handled"}, 1)

    def test_a_message_without_a_handler_is_kept_as_dead_after_the_last_attempt(self, settings: Settings) -> None:
        settings.ES_DJANGO = {"INBOX": {"MAX_ATTEMPTS": 1}}
        message = make_message()
        assert receive(to_wire(message)) is Outcome.DEAD
        receipt = InboxReceipt.objects.get()
        assert (receipt.consumer, receipt.message_id) == (UNHANDLED, str(message.message_id))
        assert (receipt.status, receipt.message) == ("dead", to_wire(message))
        assert "no handler" in receipt.last_error

    @pytest.mark.parametrize(
        "delivered",
        [
            None,
            "text",
            17,
            [],
            {},
            {"type": 1, "data": {}},
            {**to_wire(make_message()), "message_id": "17"},
            {**to_wire(make_message()), "stream": {"category": "", "key": ""}},
            {"null": "\x00"},
            {"inf": float("inf")},
        ],
    )
    def test_content_that_is_not_a_message_is_kept_as_dead_once(
        self, delivered: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        handle_message(delivered)
        handle_message(delivered)
        receipt = InboxReceipt.objects.get()
        assert (receipt.consumer, receipt.status) == (UNHANDLED, "dead")
        assert content_of(receipt) == delivered
        assert receipt.last_error.startswith("not a message: ")
        assert "a delivery is kept as dead: not a message" in caplog.text

    def test_different_contents_that_are_not_messages_are_kept_apart(self) -> None:
        handle_message({"number": 1})
        handle_message({"number": 2})
        assert InboxReceipt.objects.count() == 2

    def test_an_attempt_that_the_database_cannot_store_is_the_brokers_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unreachable(*args: object, **kwargs: object) -> None:
            raise StorageError("begin an attempt", True)

        monkeypatch.setattr(attempts, "begin", unreachable)
        monkeypatch.setattr(delivery, "insert_dead_receipt", unreachable)
        consumer("mailer")
        for delivered in (to_wire(make_message()), to_wire(make_message("tests.nobody")), "no message"):
            with pytest.raises(StorageError):
                receive(delivered)
        assert (effects(), receipts()) == (0, {})


class TestOtherContent:
    def test_fault_a15_other_content_under_the_id_of_a_waiting_message_is_kept_as_dead(self) -> None:
        consumer("mailer", failing(TimeoutError("later")))
        message = make_message()
        receive(to_wire(message))
        other = make_message(message_id=message.message_id, data={"number": 2})
        assert [receive(to_wire(other)), receive(to_wire(other))] == [Outcome.CONFLICT] * 2
        assert set(InboxReceipt.objects.values_list("status", "attempts")) == {("retrying", 1), ("dead", 1)}
        consumer("mailer")
        assert receive(to_wire(message), consumer="mailer", after=1) is Outcome.HANDLED


class TestRetryInTheDatabase:
    def test_fault_b3_a_failed_message_waits_in_its_receipt(self) -> None:
        consumer("mailer", failing(TimeoutError("later")))
        message, route = to_wire(make_message()), {"exchange": "", "routing_key": "handlers"}
        assert receive(message, route=route) is Outcome.POSTPONED
        receipt = InboxReceipt.objects.annotate(wait=F("retry_at") - F("handled_at")).get()
        assert (receipt.status, receipt.attempts, receipt.message, receipt.route) == ("retrying", 1, message, route)
        assert "later" in receipt.last_error
        assert receipt.wait > timedelta(0)
        assert effects() == 0

    def test_fault_b3_only_an_attempt_whose_handler_began_counts(self) -> None:
        consumer("mailer", failing(TimeoutError("later")))
        message = to_wire(make_message())
        for _ in range(5):
            assert receive(message) is Outcome.POSTPONED
        assert InboxReceipt.objects.get().attempts == 1
        make_due()
        receive(message)
        assert InboxReceipt.objects.get().attempts == 2

    def test_fault_b3_a_second_copy_of_a_retry_begins_nothing(self) -> None:
        consumer("mailer", failing(TimeoutError("later")))
        message = to_wire(make_message())
        receive(message)
        for _ in range(3):
            receive(message, consumer="mailer", after=1)
        assert InboxReceipt.objects.get().attempts == 2

    def test_fault_b3_a_retry_runs_the_handler_of_one_consumer(self) -> None:
        consumer("down", failing(TimeoutError("later")))
        consumer("fine")
        message = to_wire(make_message())
        assert receive(message) is Outcome.POSTPONED
        consumer("down")
        assert receive(message, consumer="down", after=1) is Outcome.HANDLED
        assert (receipts(), effects()) == ({"fine": "handled", "down": "handled"}, 2)

    def test_fault_b3_a_retry_whose_handler_was_removed_waits_for_it(self) -> None:
        consumer("mailer", failing(TimeoutError("later")), type="tests.removed")
        message = to_wire(make_message("tests.removed"))
        receive(message)
        from es_django.inbox import handlers

        del handlers._handlers["tests.removed"]
        assert receive(message, consumer="mailer", after=1) is Outcome.POSTPONED
        receipt = InboxReceipt.objects.get()
        assert (receipt.consumer, receipt.attempts) == ("mailer", 2)
        assert "no handler for messages of type 'tests.removed' in consumer mailer" in receipt.last_error

    def test_fault_b3_a_failed_message_is_dead_after_its_attempts(
        self, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.ES_DJANGO = {"INBOX": {"MAX_ATTEMPTS": 3}}
        consumer("mailer", failing(TimeoutError("later")))
        message = to_wire(make_message())
        outcomes = []
        for _ in range(4):
            outcomes.append(receive(message))
            make_due()
        assert outcomes == [Outcome.POSTPONED, Outcome.POSTPONED, Outcome.DEAD, Outcome.DEAD]
        receipt = InboxReceipt.objects.get()
        assert (receipt.status, receipt.attempts, receipt.message) == ("dead", 3, message)
        (record,) = (each for each in caplog.records if each.levelname == "ERROR")
        assert "which is dead now" in record.getMessage()

    @pytest.mark.parametrize("data", [{"null": "\x00"}, {"surrogate": "\udc80"}, "text", None, [1.5]])
    def test_fault_b3_the_receipt_keeps_the_whole_message(self, data: Any) -> None:
        consumer("mailer", failing(TimeoutError("later")))
        message = to_wire(make_message(data=data))
        receive(message)
        assert content_of(InboxReceipt.objects.get()) == message

    def test_fault_b3_a_failure_that_cannot_be_stored_leaves_the_receipt_open(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unreachable(*args: object, **kwargs: object) -> None:
            raise StorageError("store a failed attempt", True)

        consumer("mailer", failing(TimeoutError("later")))
        monkeypatch.setattr(attempts, "settle", unreachable)
        assert receive(to_wire(make_message())) is Outcome.POSTPONED
        assert receipts() == {"mailer": "handling"}

    def test_fault_b3_an_attempt_that_was_taken_for_lost_runs_no_handler(self) -> None:
        consumer("mailer")
        message = make_message()
        paused = attempts.begin("mailer", message, to_wire(message), None)
        assert isinstance(paused, attempts.Attempt)
        attempts.settle(paused, "lost", 0)
        assert receive(to_wire(message), consumer="mailer", after=1) is Outcome.HANDLED
        assert attempts.run(paused, message, failing(ValueError())) is Outcome.POSTPONED
        assert attempts.settle(paused, "too late", None) is Outcome.REPEATED
        assert (receipts(), effects()) == ({"mailer": "handled"}, 1)


class Unregistered(Exception):
    pass


class Derived(Unregistered):
    pass


def wait() -> timedelta:
    waits: list[timedelta] = list(
        InboxReceipt.objects.annotate(wait=F("retry_at") - F("handled_at")).values_list("wait", flat=True)
    )
    return waits[0]


class TestPolicy:
    @pytest.mark.parametrize("after", [3600, 3600.0, timedelta(hours=1)])
    def test_fault_b4_a_handler_says_when_to_try_again(self, after: Any) -> None:
        consumer("mailer", failing(HandlerRetry("the mailbox is locked", after=after)))
        assert receive(to_wire(make_message())) is Outcome.POSTPONED
        assert timedelta(seconds=3599) <= wait() <= timedelta(seconds=3660)

    @pytest.mark.parametrize("after", [-1, float("nan"), float("inf"), timedelta(days=366)])
    def test_fault_b4_an_invalid_pause_is_rejected(self, after: Any) -> None:
        with pytest.raises(ValueError, match="after must be 0 to"):
            HandlerRetry(after=after)

    def test_fault_b4_a_handler_that_always_asks_for_a_retry_ends_dead(self, settings: Settings) -> None:
        settings.ES_DJANGO = {"INBOX": {"MAX_ATTEMPTS": 2}}
        consumer("mailer", failing(HandlerRetry(after=0)))
        message = to_wire(make_message())
        receive(message)
        make_due()
        assert receive(message) is Outcome.DEAD

    def test_fault_b4_a_rejected_message_is_dead_at_once_whatever_is_retryable(self) -> None:
        consumer("mailer", failing(HandlerRejected("never")), retry_on=Exception)
        assert receive(to_wire(make_message())) is Outcome.DEAD

    @pytest.mark.parametrize("error", [Unregistered(), Derived()])
    def test_fault_b4_a_handler_names_its_own_transient_errors(self, error: Exception) -> None:
        consumer("mailer", failing(error))
        consumer("patient", failing(error), retry_on=(Unregistered, LookupError))
        receive(to_wire(make_message()))
        assert receipts() == {"mailer": "dead", "patient": "retrying"}

    def test_fault_b4_a_project_registers_its_transient_errors(self, settings: Settings) -> None:
        settings.ES_DJANGO = {"INBOX": {"RETRY_ON": [f"{__name__}.Unregistered"]}}
        consumer("mailer", failing(Derived()))
        receive(to_wire(make_message()))
        assert receipts() == {"mailer": "retrying"}

    def test_fault_b4_a_database_error_can_be_named(self) -> None:
        from django.db import IntegrityError

        def twice(message: Message) -> None:
            for _ in range(2):
                InboxReceipt.objects.create(consumer="x", message_id="x", status="handled")

        consumer("mailer", twice, retry_on=IntegrityError)
        receive(to_wire(make_message()))
        assert receipts() == {"mailer": "retrying"}

    def test_fault_b4_attempts_and_backoff_are_the_handlers(self) -> None:
        consumer("once", failing(TimeoutError()), attempts=1)
        consumer("slow", failing(TimeoutError()), backoff={"base": 7200, "max": 7200})
        receive(to_wire(make_message()))
        assert receipts() == {"once": "dead", "slow": "retrying"}
        slow = InboxReceipt.objects.annotate(wait=F("retry_at") - F("handled_at")).get(consumer="slow")
        assert timedelta(hours=1) <= slow.wait <= timedelta(hours=2, minutes=1)

    def test_fault_b4_an_unknown_error_is_dead_at_once_with_its_traceback(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        consumer("mailer", failing(ValueError("a bug")))
        assert receive(to_wire(make_message())) is Outcome.DEAD
        assert "deliveries.py" in caplog.text
