"""The operations of an operator: requeue, release and discard."""

import logging
from collections.abc import Callable, Iterable
from uuid import UUID, uuid4

import pytest
from pytest_django import Settings

from es_django import outbox
from es_django.core import chunks
from es_django.errors import PublishError
from es_django.outbox.backends import outbox_store
from es_django.outbox.port import Settlement
from es_django.outbox.relay import relay
from es_django.outbox.states import Status, Transition
from tests.outbox.rows import end_pauses, row, rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("recorder", "backend")]

Operation = Callable[..., list[UUID]]
OPERATIONS: dict[Operation, Transition] = {
    outbox.requeue: Transition.REQUEUE,
    outbox.release: Transition.RELEASE,
    outbox.discard: Transition.DISCARD,
}


def message_in(status: Status) -> UUID:
    """Send a message and bring it to this status."""
    message_id = outbox.send("tests", type="noted", data=None)
    if status is Status.PENDING:
        return message_id
    (claim,) = outbox_store().claim("tests", "a", limit=1, lease=60)
    assert claim.message.message_id == message_id
    settlements = {
        Status.PUBLISHED: Settlement(claim),
        Status.DEAD: Settlement(claim, PublishError("never", retryable=False)),
        Status.DISCARDED: Settlement(claim, PublishError("never", retryable=False)),
    }
    if status is not Status.CLAIMED:
        assert outbox_store().settle("a", [settlements[status]]) == [None]
    if status is Status.DISCARDED:
        outbox.discard([message_id], by="ada")
    assert row().status == status
    return message_id


class TestEveryOperation:
    @pytest.mark.parametrize("status", list(Status))
    @pytest.mark.parametrize("operation", list(OPERATIONS), ids=lambda operation: operation.__name__)
    def test_an_operation_changes_only_messages_in_its_allowed_statuses(
        self, operation: Operation, status: Status
    ) -> None:
        transition = OPERATIONS[operation]
        message_id = message_in(status)
        before = row()
        changed = operation([message_id], by="ada")
        if status in transition.origins:
            assert changed == [message_id]
            assert row().status == transition.target
        else:
            assert changed == []
            assert row() == before

    def test_an_operation_logs_each_message_and_the_operator(self, caplog: pytest.LogCaptureFixture) -> None:
        first, second = (outbox.send("tests", type="noted", data=None) for _ in range(2))
        with caplog.at_level(logging.INFO, "es_django.outbox"):
            assert outbox.discard([first, second, uuid4()], by="ada") == [first, second]
        assert [record.getMessage() for record in caplog.records] == [
            f"message {first} was discarded by ada",
            f"message {second} was discarded by ada",
        ]

    def test_an_operation_without_an_operator_is_rejected(self) -> None:
        message_id = message_in(Status.DEAD)
        with pytest.raises(ValueError, match="by, the name of the operator, must be"):
            outbox.requeue([message_id], by=" ")
        assert row().status == Status.DEAD

    def test_an_operation_on_many_messages_works_in_chunks(self) -> None:
        sent = [outbox.send("tests", type="noted", data=None) for _ in range(7)]

        def ids() -> Iterable[UUID]:
            yield from sent

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chunks, "CHUNK", 3)
            assert outbox.discard(ids(), by="ada") == sent
        end_pauses()
        assert {each.status for each in rows()} == {Status.DISCARDED}


class TestRequeue:
    def test_a_requeued_message_is_due_at_once_with_0_attempts(self) -> None:
        message_id = message_in(Status.DEAD)
        assert row().attempts == 1
        outbox.requeue([message_id], by="ada")
        assert row() == (Status.PENDING, 0, "never", True)
        (claim,) = outbox_store().claim("tests", "b", limit=1, lease=60)
        assert claim.attempts == 1


class TestRelease:
    def test_a_released_message_that_backed_off_is_due_at_once(self) -> None:
        message_id = outbox.send("tests", type="noted", data=None)
        claims = outbox_store().claim("tests", "a", limit=1, lease=60)
        outbox_store().settle("a", [Settlement(claims[0], PublishError("down"))])
        assert not row().is_due
        outbox.release([message_id], by="ada")
        assert row()[:2] == (Status.PENDING, 1)
        assert row().is_due

    @pytest.mark.parametrize(("max_attempts", "left"), [(1, 0), (3, 1)])
    def test_a_released_message_has_at_least_one_attempt_left(
        self, max_attempts: int, left: int, settings: Settings
    ) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"MAX_ATTEMPTS": max_attempts}}
        message_id = message_in(Status.CLAIMED)
        outbox.release([message_id], by="ada")
        assert row()[:2] == (Status.PENDING, left)
        assert relay() == 1

    def test_the_former_worker_of_a_released_message_cannot_settle_it(self) -> None:
        message_id = outbox.send("tests", type="noted", data=None)
        claims = outbox_store().claim("tests", "a", limit=1, lease=60)
        outbox.release([message_id], by="ada")
        (lost,) = outbox_store().settle("a", [Settlement(claims[0])])
        assert lost is not None
        assert row().status == Status.PENDING
