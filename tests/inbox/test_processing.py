"""A message that a broker delivers is handled, retried, or kept as dead."""

from typing import Any

import pytest
from celery.exceptions import Retry

from es_django import HandlerRejected, Message, StorageError
from es_django.inbox import processing
from es_django.inbox.handlers import UNHANDLED
from es_django.inbox.processing import handle, receive
from es_django.inbox.receipts import Outcome, content_of
from es_django.messages.message import to_wire
from es_django.models import InboxReceipt
from es_django.tasks import handle_message
from tests.inbox.deliveries import consumer, effects, failing, make_message, receipts

pytestmark = pytest.mark.django_db(transaction=True)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class TestHandle:
    def test_a_message_runs_the_handler_of_each_consumer(self) -> None:
        handled: list[tuple[str, Any]] = []
        consumer("one", lambda message: handled.append(("one", message.data)))
        consumer("two", lambda message: handled.append(("two", message.data)))
        handle_message(to_wire(make_message()))
        assert handled == [("one", {"number": 1}), ("two", {"number": 1})]

    def test_a_second_delivery_has_the_outcome_repeated(self) -> None:
        consumer("mailer")
        message = make_message()
        assert [handle(message), handle(message)] == [Outcome.HANDLED, Outcome.REPEATED]

    def test_the_most_severe_outcome_of_the_consumers_is_returned(self) -> None:
        consumer("fine")
        consumer("bug", failing(ValueError()))
        assert handle(make_message()) is Outcome.DEAD
        consumer("down", failing(TimeoutError()))
        assert handle(make_message()) is Outcome.POSTPONED

    def test_a_retryable_failure_is_retried_and_the_other_consumers_do_not_wait(self) -> None:
        consumer("down", failing(TimeoutError("later")))
        consumer("fine")
        message = make_message()
        assert handle(message) is Outcome.POSTPONED
        assert (receipts(), effects()) == ({"fine": "handled"}, 1)
        consumer("down")
        assert handle(message, attempt=2) is Outcome.HANDLED
        assert (receipts(), effects()) == ({"fine": "handled", "down": "handled"}, 2)

    def test_a_failure_is_logged_with_its_traceback(self, caplog: pytest.LogCaptureFixture) -> None:
        consumer("mailer", failing(ValueError("a bug")))
        message: Message = make_message()
        handle(message)
        assert f"consumer mailer failed on message {message.message_id}" in caplog.text
        assert "deliveries.py" in caplog.text


class TestDeadMessages:
    @pytest.mark.parametrize(
        "error",
        [HandlerRejected("never"), ValueError("a bug"), StorageError("find it", False), Unprintable(), MemoryError()],
    )
    def test_a_permanent_failure_keeps_the_message_as_dead(self, error: Exception) -> None:
        consumer("mailer", failing(error))
        message = make_message()
        assert [handle(message, attempt=2), handle(message)] == [Outcome.DEAD, Outcome.DEAD]
        receipt = InboxReceipt.objects.get()
        assert (receipt.status, receipt.consumer, receipt.attempts) == ("dead", "mailer", 2)
        assert receipt.message == to_wire(message)
        assert type(error).__name__ in receipt.last_error
        assert effects() == 0

    @pytest.mark.parametrize("error", [TimeoutError("later"), SystemExit(1)])
    def test_a_failure_of_the_last_attempt_keeps_the_message_as_dead(self, error: BaseException) -> None:
        consumer("mailer", failing(error))
        message = make_message()
        assert handle(message, attempt=9) is Outcome.POSTPONED
        assert handle(message, attempt=10, last=True) is Outcome.DEAD
        assert receipts() == {"mailer": "dead"}

    def test_an_error_text_with_unstorable_characters_is_kept_readable(self) -> None:
        consumer("mailer", failing(ValueError("a \x00 and a \udc80")))
        assert handle(make_message()) is Outcome.DEAD
        assert "\\x00" in InboxReceipt.objects.get().last_error

    def test_a_message_with_unstorable_characters_is_kept_whole(self) -> None:
        consumer("mailer", failing(ValueError()))
        message = make_message(data={"null": "\x00", "surrogate": "\udc80", "number": float("inf")})
        assert handle(message) is Outcome.DEAD
        assert content_of(InboxReceipt.objects.get()) == to_wire(message)

    def test_a_message_that_cannot_be_kept_as_dead_is_retried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unreachable(*args: object, **kwargs: object) -> None:
            raise StorageError("store a dead message", True)

        consumer("mailer", failing(ValueError("a bug")))
        monkeypatch.setattr(processing, "dead_letter", unreachable)
        monkeypatch.setattr(processing, "insert_dead_receipt", unreachable)
        for delivered in (to_wire(make_message()), to_wire(make_message("tests.nobody")), "no message"):
            assert receive(delivered, attempt=10, last=True) is Outcome.POSTPONED
        assert not InboxReceipt.objects.exists()


class TestReceive:
    def test_a_message_without_a_handler_waits_for_one_to_be_deployed(self, caplog: pytest.LogCaptureFixture) -> None:
        message = make_message()
        assert receive(to_wire(message), attempt=1, last=False) is Outcome.POSTPONED
        assert "no handler for messages of type 'tests.noted'" in caplog.text
        assert not InboxReceipt.objects.exists()
        consumer("mailer")
        assert receive(to_wire(message), attempt=2, last=False) is Outcome.HANDLED

    def test_a_message_without_a_handler_is_kept_as_dead_at_the_last_attempt(self) -> None:
        message = make_message()
        assert receive(to_wire(message), attempt=10, last=True) is Outcome.DEAD
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


class TestTask:
    def test_the_task_is_retried_after_a_pause(self, monkeypatch: pytest.MonkeyPatch) -> None:
        paused: list[float] = []

        def retry(*, countdown: float) -> Retry:
            paused.append(countdown)
            return Retry()

        monkeypatch.setattr(handle_message, "retry", retry)
        consumer("mailer", failing(TimeoutError()))
        with pytest.raises(Retry):
            handle_message(to_wire(make_message()))
        assert paused == [1.0]

    def test_the_task_gives_up_after_the_last_attempt(self, settings: Any) -> None:
        settings.ES_DJANGO = {"OUTBOX": {"MAX_ATTEMPTS": 1}}
        consumer("mailer", failing(TimeoutError()))
        handle_message(to_wire(make_message()))
        assert receipts() == {"mailer": "dead"}
