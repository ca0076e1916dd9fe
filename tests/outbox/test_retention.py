"""Pruning deletes only old messages that are published or discarded."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from es_django import outbox
from es_django.models import OutboxMessage
from es_django.outbox.retention import prune_messages
from es_django.outbox.states import Status

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("recorder")]

WEEK = timedelta(days=7)
NOW = timezone.now()
OLD, YOUNG = NOW - timedelta(days=8), NOW - timedelta(days=6)


def message(status: Status, ended: object = None, created: object = OLD) -> int:
    id = outbox.send("tests", type="noted", data=None)
    changes: dict[str, object] = {"status": status, "created_at": created}
    if status == Status.PUBLISHED:
        changes["published_at"] = ended
    if status in (Status.DEAD, Status.DISCARDED):
        changes["failed_at"] = ended
    if status == Status.CLAIMED:
        changes |= {"claimed_by": "a", "claimed_until": OLD}
    OutboxMessage.objects.filter(message_id=id).update(**changes)
    return OutboxMessage.objects.get(message_id=id).pk


def left() -> set[int]:
    return set(OutboxMessage.objects.values_list("id", flat=True))


class TestPruneMessages:
    def test_only_old_published_and_discarded_messages_are_deleted(self) -> None:
        message(Status.PUBLISHED, OLD)
        message(Status.DISCARDED, OLD)
        kept = {
            message(Status.PENDING),
            message(Status.CLAIMED),
            message(Status.DEAD, OLD),
            message(Status.PUBLISHED, YOUNG),
            message(Status.DISCARDED, YOUNG),
            message(Status.PUBLISHED, YOUNG, created=YOUNG),
        }
        assert prune_messages(WEEK) == 2
        assert left() == kept
        assert prune_messages(WEEK) == 0

    def test_pruning_continues_past_messages_that_are_kept(self) -> None:
        kept = {message(Status.DEAD, OLD) for _ in range(5)}
        for _ in range(5):
            message(Status.PUBLISHED, OLD)
        assert prune_messages(WEEK, batch_size=2) == 5
        assert left() == kept

    def test_recent_messages_are_not_read(self) -> None:
        message(Status.PUBLISHED, OLD)
        for _ in range(20):
            message(Status.PUBLISHED, YOUNG, created=YOUNG)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert prune_messages(WEEK, batch_size=4) == 1
        assert sum("SELECT" in query["sql"].split("WHERE")[0] for query in queries) == 1

    def test_pruning_stops_at_its_time_limit_and_the_next_run_continues(self) -> None:
        message(Status.PUBLISHED, OLD)
        assert prune_messages(WEEK, seconds=0) == 0
        assert prune_messages(WEEK) == 1


@pytest.mark.parametrize("days", [8, -8])
def test_fault_e8_the_clock_of_this_host_deletes_nothing_too_soon(days: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shifted = timezone.now() + timedelta(days=days)
    monkeypatch.setattr(timezone, "now", lambda: shifted)
    message(Status.PUBLISHED, OLD)
    kept = {message(Status.PUBLISHED, YOUNG), message(Status.DISCARDED, YOUNG)}
    assert prune_messages(WEEK) == 1
    assert left() == kept
