"""Users with the permission operate projections after a confirmation, and each operation is logged."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from es_django.models import CheckpointStatus, ProjectionCheckpoint, SkippedEvent
from tests.admin.builders import checkpoint, list_url, notes, page_url, stored_event
from tests.admin.pages import Page

Get = Callable[..., Page]

MAY_OPERATE = ("view_projectioncheckpoint", "operate_projectioncheckpoint")
ACTIONS = ["pause", "resume", "skip", "rebuild"]


def failed() -> ProjectionCheckpoint:
    position = notes(3)[1].position
    return checkpoint(
        name="statements", position=position - 1, status="failed", failed_position=position, attempts=5, last_error="no"
    )


def choose(client: Client, row: ProjectionCheckpoint, action: str, **answer: Any) -> Any:
    return client.post(list_url(ProjectionCheckpoint), {"action": action, "_selected_action": [row.pk], **answer})


def confirm(client: Client, row: ProjectionCheckpoint, action: str) -> list[str]:
    """Choose an action, confirm it, and return the messages of the next page."""
    page = Page(choose(client, row, action).content.decode())
    form = next(each for each in page.all("form") if each.attributes.get("id") == "content-main")
    answer: dict[str, list[str]] = {}
    for field in form.all("input"):
        answer.setdefault(field.attributes["name"], []).append(field.attributes["value"])
    page = Page(client.post(list_url(ProjectionCheckpoint), answer, follow=True).content.decode())
    return [item.text for item in page.one("ul.messagelist").all("li")]


class TestActions:
    def test_unconfirmed_action_changes_nothing(self, superuser: Client) -> None:
        row = failed()
        before = ProjectionCheckpoint.objects.values().get()
        for action in ACTIONS:
            page = Page(choose(superuser, row, action).content.decode())
            assert f"statements: status failed, applied up to position {row.position}" in page.text
        assert ProjectionCheckpoint.objects.values().get() == before
        assert not LogEntry.objects.exists()

    @pytest.mark.parametrize("action", ACTIONS)
    def test_view_permission_does_not_allow_actions(self, staff: Callable[..., Client], action: str) -> None:
        row = failed()
        before = ProjectionCheckpoint.objects.values().get()
        client = staff("view_projectioncheckpoint")
        assert choose(client, row, action, confirmed="Yes, do it", failed=row.failed_position).status_code == 403
        assert ProjectionCheckpoint.objects.values().get() == before
        assert 'name="action"' not in client.get(list_url(ProjectionCheckpoint)).content.decode()

    def test_resumed_projection_runs_and_the_user_is_logged(self, staff: Callable[..., Client]) -> None:
        row = failed()
        assert confirm(staff(*MAY_OPERATE), row, "resume") == ["Resume statements: done."]
        row.refresh_from_db()
        assert (row.status, row.attempts) == (CheckpointStatus.RUNNING, 0)
        entry = LogEntry.objects.get()
        assert (entry.user.get_username(), entry.change_message) == ("staff", "Resume statements")

    def test_paused_projection_has_the_status_paused(self, staff: Callable[..., Client]) -> None:
        row = checkpoint(name="statements")
        confirm(staff(*MAY_OPERATE), row, "pause")
        row.refresh_from_db()
        assert row.status == CheckpointStatus.PAUSED

    def test_rebuild_starts_at_position_0(self, superuser: Client) -> None:
        row = failed()
        question = "Empty the read model and replay the log of statements"
        assert confirm(superuser, row, "rebuild") == [f"{question}: started, workers replay the log."]
        row.refresh_from_db()
        assert (row.status, row.position) == (CheckpointStatus.REBUILDING, 0)
        assert LogEntry.objects.count() == 1

    def test_second_rebuild_reports_that_one_is_under_way(self, superuser: Client) -> None:
        row = failed()
        confirm(superuser, row, "rebuild")
        question = "Empty the read model and replay the log of statements"
        assert confirm(superuser, row, "rebuild") == [f"{question}: already under way."]
        assert LogEntry.objects.count() == 1

    def test_impossible_action_shows_the_error(self, superuser: Client) -> None:
        row = checkpoint(name="statements")
        assert confirm(superuser, row, "resume") == ["Projection 'statements' cannot be resumed: it is running"]
        assert not LogEntry.objects.exists()


class TestSkip:
    def test_page_shows_the_skipped_event_and_its_user(self, superuser: Client, get: Get) -> None:
        row = failed()
        assert confirm(superuser, row, "skip") == ["Skip the failed event of statements: done."]
        row.refresh_from_db()
        assert (row.status, row.position, row.failed_position) == (
            CheckpointStatus.RUNNING,
            stored_event(2).position,
            None,
        )
        page = get(page_url(row))
        assert page.facts["Skipped"].startswith(f"position {row.position} by root, ")
        assert page.link(f"position {row.position}") == page_url(stored_event(2))

    def test_only_the_shown_event_is_skipped(self, superuser: Client) -> None:
        row = failed()
        choose(superuser, row, "skip", confirmed="Yes, do it", failed=stored_event(1).position)
        row.refresh_from_db()
        assert (row.status, SkippedEvent.objects.count()) == (CheckpointStatus.FAILED, 0)


class TestPage:
    def test_list_numbers_the_partitions_of_a_projection(self, get: Get) -> None:
        for number in (0, 1):
            checkpoint(name="statements", partition=number, partitions=2)
        page = get(list_url(ProjectionCheckpoint))
        assert page.column("share") == ["1 of 2", "2 of 2"]

    def test_inline_projection_has_no_lag_and_can_be_rebuilt(self, superuser: Client, get: Get) -> None:
        row = checkpoint(name="balances", status="inline")
        notes(3)
        page = get(list_url(ProjectionCheckpoint))
        assert (page.column("status_and_shape"), page.column("place")) == (["✓ Inline"], ["-"])
        assert page.column("behind") == ["none: runs inline"]
        confirm(superuser, row, "rebuild")
        row.refresh_from_db()
        assert (row.status, row.position) == (CheckpointStatus.REBUILDING, 0)
