"""A handler takes effect once per consumer and message."""

from collections.abc import Callable
from contextlib import suppress
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest
from celery.exceptions import Retry
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, transaction

from es_django import HandlerRejected, Message, StorageError, handles
from es_django.inbox.receipts import handle_once
from es_django.metadata import current_metadata
from es_django.models import InboxReceipt, ProjectionCheckpoint
from es_django.store.messages import to_wire
from es_django.tasks import handle_message
from tests.processes import run_processes

pytestmark = pytest.mark.django_db(transaction=True)

Status = InboxReceipt.Status


def have_an_effect(message: Message) -> None:
    """Any row will do as an effect; this table is at hand."""
    ProjectionCheckpoint.objects.create(name=f"effect {ProjectionCheckpoint.objects.count()}")


def effects() -> int:
    return ProjectionCheckpoint.objects.count()


def make_message(type: str = "tests.noted") -> Message:
    return Message(type=type, data={"number": 1}, headers={"correlation_id": "c-1"})


def test_a_second_delivery_has_no_effect() -> None:
    message = make_message()
    assert handle_once("mailer", message, have_an_effect)
    assert not handle_once("mailer", message, have_an_effect)
    assert effects() == 1
    assert InboxReceipt.objects.get().status == Status.HANDLED


def test_every_consumer_has_its_own_receipt() -> None:
    message = make_message()
    assert handle_once("mailer", message, have_an_effect)
    assert handle_once("printer", message, have_an_effect)
    assert effects() == 2


def test_a_failing_handler_leaves_neither_effect_nor_receipt() -> None:
    def fail(message: Message) -> None:
        have_an_effect(message)
        raise ConnectionError

    message = make_message()
    with pytest.raises(ConnectionError):
        handle_once("mailer", message, fail)
    assert (effects(), InboxReceipt.objects.count()) == (0, 0)
    assert handle_once("mailer", message, have_an_effect)


def test_a_handler_that_swallows_a_database_error_has_not_handled_its_message() -> None:
    def swallow(message: Message) -> None:
        with suppress(IntegrityError):
            InboxReceipt.objects.create(consumer="", message_id="", status=Status.HANDLED)

    with pytest.raises(StorageError, match="was caught inside it"):
        handle_once("mailer", make_message(), swallow)
    assert not InboxReceipt.objects.exists()


def test_a_message_that_cannot_even_be_kept_as_dead_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing("unlucky", ValueError("a bug"))

    def unreachable(*args: object, **kwargs: object) -> None:
        raise StorageError("keep a dead message", True)

    monkeypatch.setattr("es_django.tasks.bury", unreachable)
    with pytest.raises((Retry, StorageError)):
        handle_message(to_wire(make_message("tests.unlucky")))


def test_an_error_that_no_database_could_hold_is_kept_readable() -> None:
    _failing("binary", ValueError("a \x00 and a \udc80"))
    handle_message(to_wire(make_message("tests.binary")))
    assert InboxReceipt.objects.get().status == Status.DEAD


def test_an_asynchronous_handler_is_refused() -> None:
    async def handle(message: Message) -> None: ...

    with pytest.raises(ImproperlyConfigured, match="must be a plain function"):
        handles("tests.async", consumer="mailer")(handle)  # type: ignore[type-var]


def test_what_a_handler_writes_is_traced_to_its_message() -> None:
    message = make_message()
    seen: list[dict[str, str]] = []
    handle_once("mailer", message, lambda _: seen.append(dict(current_metadata())))
    assert seen == [{"correlation_id": "c-1", "causation_id": str(message.message_id)}]


def handle_at_once(barrier: Barrier, fields: Message) -> bool:
    barrier.wait()
    return handle_once("mailer", fields, have_an_effect)


def test_concurrent_deliveries_in_processes_have_one_effect() -> None:
    ran = run_processes(handle_at_once, [(make_message(),)] * 4)
    assert sorted(ran) == [False, False, False, True]
    assert effects() == 1


def test_a_message_runs_the_handler_of_each_consumer() -> None:
    handled = []
    handles("tests.for_two", consumer="one")(lambda message: handled.append(("one", message.data)))
    handles("tests.for_two", consumer="two")(lambda message: handled.append(("two", message.data)))
    handle_message(to_wire(make_message("tests.for_two")))
    assert handled == [("one", {"number": 1}), ("two", {"number": 1})]


def _failing(consumer: str, error: Exception) -> Callable[[Message], None]:
    def fail(message: Message) -> None:
        raise error

    return handles(f"tests.{consumer}", consumer=consumer)(fail)


@pytest.mark.parametrize("error", [HandlerRejected("never"), ValueError("a bug")])
def test_a_permanent_failure_keeps_the_message_as_dead(error: Exception) -> None:
    consumer = f"permanent {type(error).__name__}"
    _failing(consumer, error)
    message = make_message(f"tests.{consumer}")
    handle_message(to_wire(message))
    receipt = InboxReceipt.objects.get()
    assert (receipt.status, receipt.consumer, receipt.message) == (Status.DEAD, consumer, to_wire(message))
    assert repr(error) in receipt.last_error
    handle_message(to_wire(message))
    assert InboxReceipt.objects.count() == 1


def test_a_retryable_failure_is_tried_again_and_the_other_consumers_do_not_wait() -> None:
    handles("tests.postponed", consumer="fine")(have_an_effect)
    handles("tests.postponed", consumer="down")(_failing("down", TimeoutError("later")))
    message = make_message("tests.postponed")
    with pytest.raises((Retry, TimeoutError)):
        handle_message(to_wire(message))
    assert [receipt.consumer for receipt in InboxReceipt.objects.all()] == ["fine"]
    assert effects() == 1


def test_a_message_without_a_handler_is_told(caplog: pytest.LogCaptureFixture) -> None:
    handle_message(to_wire(make_message("tests.nobody")))
    assert "no handler" in caplog.text


@pytest.mark.parametrize("wrong", [{"consumer": ""}, {"message_id": ""}])
def test_a_blank_consumer_or_id_is_refused_by_the_database(wrong: dict[str, Any]) -> None:
    values = {"consumer": "mailer", "message_id": "1", "status": Status.HANDLED, **wrong}
    with pytest.raises(IntegrityError), transaction.atomic():
        InboxReceipt.objects.create(**values)


@pytest.mark.parametrize(
    ("message_type", "consumer"), [(" ", "mailer"), ("tests.noted", ""), ("tests.noted", "x" * 256)]
)
def test_a_blank_or_too_long_name_is_refused(message_type: str, consumer: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="1 to 255 characters"):
        handles(message_type, consumer=consumer)


def test_two_handlers_of_one_consumer_for_one_type_are_refused() -> None:
    handles("tests.twice", consumer="mailer")(have_an_effect)
    with pytest.raises(ImproperlyConfigured, match="two handlers"):
        handles("tests.twice", consumer="mailer")(test_a_second_delivery_has_no_effect)  # type: ignore[type-var]
