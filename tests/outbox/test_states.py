"""Status and times of a message determine its state."""

from datetime import timedelta
from itertools import product
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from es_django.models import OutboxMessage
from es_django.outbox.states import MessageState, Status

HOUR = timedelta(hours=1)


def columns_of(status: Status, is_over: bool) -> dict[str, Any]:
    now = timezone.now()
    columns: dict[Status, dict[str, Any]] = {
        Status.PENDING: {},
        Status.CLAIMED: {"claimed_by": "a", "claimed_until": now - HOUR if is_over else now + HOUR},
        Status.PUBLISHED: {"published_at": now},
        Status.DEAD: {"failed_at": now},
        Status.DISCARDED: {"failed_at": now},
    }
    return columns[status]


@pytest.mark.django_db
class TestMessageState:
    def test_every_message_is_in_exactly_one_state(self) -> None:
        now = timezone.now()
        for status, attempts, available_at, is_over in product(Status, (0, 1), (now - HOUR, now + HOUR), (True, False)):
            OutboxMessage.objects.create(
                message_id=uuid4(),
                destination="tests",
                type="noted",
                data={},
                headers={},
                status=status,
                attempts=attempts,
                available_at=available_at,
                **columns_of(status, is_over),
            )
        found = [list(OutboxMessage.objects.filter(state.query).values_list("pk", flat=True)) for state in MessageState]
        assert all(found), "the test must cover messages in every state"
        assert sorted(pk for each in found for pk in each) == sorted(OutboxMessage.objects.values_list("pk", flat=True))
