"""A message whose sender keeps it until it is handled is handled, sent again, or kept as dead."""

from typing import Any

import pytest

from es_django import HandlerRejected, Message, StorageError
from es_django.inbox import processing
from es_django.inbox.processing import handle
from es_django.inbox.receipts import Outcome, content_of
from es_django.messages.message import to_wire
from es_django.models import InboxReceipt
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
        handle(make_message())
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
        assert handle(message) is Outcome.HANDLED
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
        assert [handle(message), handle(message)] == [Outcome.DEAD, Outcome.DEAD]
        receipt = InboxReceipt.objects.get()
        assert (receipt.status, receipt.consumer, receipt.attempts) == ("dead", "mailer", 1)
        assert receipt.message == to_wire(message)
        assert type(error).__name__ in receipt.last_error
        assert effects() == 0

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
        assert handle(make_message()) is Outcome.POSTPONED
        assert not InboxReceipt.objects.exists()
