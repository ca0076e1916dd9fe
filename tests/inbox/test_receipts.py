"""A handler takes effect once for each consumer and message."""

from asyncio import CancelledError
from contextlib import suppress
from multiprocessing.synchronize import Barrier
from typing import Any, cast
from uuid import UUID

import pytest
from celery.exceptions import WorkerShutdown
from django.db import Error, IntegrityError, connection, transaction

from es_django import Message, StorageError
from es_django.core.metadata import current_metadata
from es_django.errors import HandlerInterrupted
from es_django.inbox.receipts import Outcome, dead_letter, handle_once
from es_django.models import InboxReceipt
from tests.inbox.deliveries import dead, effects, failing, have_an_effect, make_message
from tests.processes import run_processes

pytestmark = pytest.mark.django_db(transaction=True)

Status = InboxReceipt.Status


def handle_at_once(barrier: Barrier, fields: Message) -> Outcome:
    barrier.wait()
    return handle_once("mailer", fields, have_an_effect)


def swallow_in_the_orm(message: Message) -> None:
    with suppress(IntegrityError):
        InboxReceipt.objects.create(consumer="", message_id="", status=Status.HANDLED)


def close_the_connection(message: Message) -> None:
    connection.close()


class TestReceipts:
    def test_a_second_delivery_has_no_effect(self) -> None:
        message = make_message()
        assert handle_once("mailer", message, have_an_effect) is Outcome.HANDLED
        assert handle_once("mailer", message, have_an_effect) is Outcome.REPEATED
        assert effects() == 1
        assert InboxReceipt.objects.get().status == Status.HANDLED

    def test_every_consumer_has_its_own_receipt(self) -> None:
        message = make_message()
        assert handle_once("mailer", message, have_an_effect) is Outcome.HANDLED
        assert handle_once("printer", message, have_an_effect) is Outcome.HANDLED
        assert effects() == 2

    def test_a_dead_message_is_not_handled_by_another_delivery(self) -> None:
        message = make_message()
        dead(message)
        assert handle_once("mailer", message, have_an_effect) is Outcome.DEAD
        assert effects() == 0

    def test_concurrent_deliveries_in_processes_have_one_effect(self) -> None:
        outcomes = run_processes(handle_at_once, [(make_message(),)] * 4)
        assert sorted(outcomes) == [Outcome.REPEATED] * 3 + [Outcome.HANDLED]
        assert effects() == 1

    def test_a_message_that_was_handled_in_the_meantime_does_not_become_dead(self) -> None:
        message = make_message()
        handle_once("mailer", message, have_an_effect)
        assert dead_letter("mailer", message, ValueError("too late"), attempt=1) is Outcome.REPEATED
        assert InboxReceipt.objects.get().status == Status.HANDLED

    def test_the_writes_of_a_handler_carry_the_metadata_of_its_message(self) -> None:
        message = make_message()
        seen: list[dict[str, str]] = []
        handle_once("mailer", message, lambda _: seen.append(dict(current_metadata())))
        assert seen == [{"correlation_id": "c-1", "causation_id": str(message.message_id)}]


class TestFailingHandlers:
    def test_a_failing_handler_leaves_neither_effect_nor_receipt(self) -> None:
        message = make_message()
        with pytest.raises(ConnectionError):
            handle_once("mailer", message, failing(ConnectionError()))
        assert (effects(), InboxReceipt.objects.count()) == (0, 0)
        assert handle_once("mailer", message, have_an_effect) is Outcome.HANDLED

    @pytest.mark.parametrize(
        "error",
        [SystemExit(), SystemExit(1), SystemExit(-1), SystemExit("usage: ..."), GeneratorExit(), CancelledError()],
    )
    def test_a_handler_that_raises_an_exit_exception_is_a_retryable_failure(self, error: BaseException) -> None:
        with pytest.raises(HandlerInterrupted, match=type(error).__name__) as raised:
            handle_once("mailer", make_message(), failing(error))
        assert raised.value.retryable
        assert (effects(), InboxReceipt.objects.count()) == (0, 0)

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), WorkerShutdown(0), SystemExit(-241)])
    def test_an_exception_that_ends_the_worker_is_raised_and_nothing_is_stored(self, error: BaseException) -> None:
        with pytest.raises(type(error)):
            handle_once("mailer", make_message(), failing(error))
        assert (effects(), InboxReceipt.objects.count()) == (0, 0)

    @pytest.mark.parametrize("handler", [swallow_in_the_orm, close_the_connection])
    def test_a_handler_that_breaks_its_transaction_leaves_its_message_unhandled(self, handler: Any) -> None:
        with pytest.raises(StorageError):
            handle_once("mailer", make_message(), handler)
        assert not InboxReceipt.objects.exists()

    def test_a_handler_that_catches_an_error_of_raw_sql_leaves_its_message_unhandled(self) -> None:
        # On SQLite an error leaves the transaction open, unless the statement says ROLLBACK.
        spoil = (
            "SELECT 1 / 0"
            if connection.vendor == "postgresql"
            else "INSERT OR ROLLBACK INTO es_django_inboxreceipt DEFAULT VALUES"
        )

        def swallow(message: Message) -> None:
            with suppress(Error), connection.cursor() as cursor:
                cursor.execute(spoil)

        with pytest.raises(StorageError, match="was caught inside the transaction"):
            handle_once("mailer", make_message(), swallow)
        assert not InboxReceipt.objects.exists()


class TestIdentities:
    @pytest.mark.parametrize("wrong", [{"consumer": ""}, {"message_id": ""}])
    def test_a_blank_consumer_or_id_is_rejected_by_the_database(self, wrong: dict[str, Any]) -> None:
        values = {"consumer": "mailer", "message_id": "1", "status": Status.HANDLED, **wrong}
        with pytest.raises(IntegrityError), transaction.atomic():
            InboxReceipt.objects.create(**values)

    @pytest.mark.parametrize(("consumer", "message_id"), [(" ", "1"), ("x" * 256, "1"), ("mailer", " ")])
    def test_a_blank_consumer_or_id_is_rejected_before_the_handler_runs(self, consumer: str, message_id: str) -> None:
        message = make_message(message_id=cast("UUID", message_id))
        with pytest.raises(ValueError, match="1 to 255 characters"):
            handle_once(consumer, message, have_an_effect)
        with pytest.raises(ValueError, match="1 to 255 characters"):
            dead_letter(consumer, message, ValueError("a bug"), attempt=1)
        assert (effects(), InboxReceipt.objects.count()) == (0, 0)
