"""A worker that is killed while it handles a message leaves both the effect and the receipt, or neither."""

from multiprocessing.synchronize import Barrier
from typing import Any

import pytest
from django.test import override_settings
from pytest_django import Settings

from es_django import ANY, Message, StreamId, event_store, handles
from es_django.inbox.retries import hand_over
from es_django.messages.message import to_wire
from es_django.models import InboxReceipt, OutboxMessage
from es_django.tasks import handle_message
from tests.inbox.deliveries import make_due
from tests.outbox.published import Announced
from tests.processes import die, run_processes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("recorder")]

STREAM = StreamId("ledger", "l-1")
POINTS = {"before the effect": 0, "after the effect": 0, "after the commit": 1}
"""Map each point at which the process dies to the number of effects and receipts at that time."""
deadly = ""


def reach(point: str) -> None:
    if point == deadly:
        die()


@handles("tests.crashing", consumer="ledger")
def take_effect(message: Message) -> None:
    """Append an event, which sends a message."""
    reach("before the effect")
    event_store.append(STREAM, [Announced(text="news")], expected=ANY)
    reach("after the effect")


def handle_and_die(barrier: Barrier, es_django: dict[str, Any], message: dict[str, Any], point: str) -> None:
    global deadly
    deadly = point
    override_settings(ES_DJANGO=es_django).enable()
    handle_message(message)
    reach("after the commit")


def effects() -> list[int]:
    return [
        event_store.version(STREAM),
        OutboxMessage.objects.count(),
        InboxReceipt.objects.filter(status="handled").count(),
    ]


class TestKilledHandler:
    @pytest.mark.parametrize("point", POINTS)
    def test_a_message_takes_effect_once_although_its_worker_is_killed(self, point: str, settings: Settings) -> None:
        message = to_wire(Message(type="tests.crashing", data=None))
        with pytest.raises(RuntimeError, match="exit code -9"):
            run_processes(handle_and_die, [(settings.ES_DJANGO, message, point)])
        assert effects() == [POINTS[point]] * 3
        make_due()
        hand_over(lambda due: [None] * len(due))  # this finds that the handler was lost
        make_due()
        for _ in range(2):
            handle_message(message)
            assert effects() == [1, 1, 1]
