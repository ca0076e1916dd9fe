"""Users with the permission requeue, release and discard messages after a confirmation, and each action is logged."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from es_django.admin import confirmation
from es_django.models import InboxReceipt, OutboxMessage, ProjectionCheckpoint
from es_django.outbox.states import MessageState
from tests.admin.builders import list_url, message
from tests.admin.forms import choose, confirm
from tests.admin.pages import Page

Staff = Callable[..., Client]
Get = Callable[..., Page]

ACTIONS = ["requeue", "release", "discard"]


def statuses() -> list[str]:
    return list(OutboxMessage.objects.order_by("pk").values_list("status", flat=True))


def said(client: Client) -> list[str]:
    page = Page(client.get(list_url(OutboxMessage)).content.decode())
    return [item.text for item in page.one("ul.messagelist").all("li")]


def in_a_minute(**columns: Any) -> OutboxMessage:
    return message(available_at=timezone.now() + timedelta(minutes=1), **columns)


class TestActions:
    @pytest.mark.parametrize("action", ACTIONS)
    def test_unconfirmed_action_changes_nothing(self, superuser: Client, action: str) -> None:
        rows = [message(status) for status in ("pending", "claimed", "dead")]
        before = list(OutboxMessage.objects.values())
        page = Page(choose(superuser, action, *rows).content.decode())
        assert "Dead: tests.announced to ledger, key note-1, attempts 10: the mailbox is <full>" in page.text
        assert page.link("No, take me back") == list_url(OutboxMessage)
        assert list(OutboxMessage.objects.values()) == before
        assert not LogEntry.objects.exists()

    @pytest.mark.parametrize(
        ("action", "word", "status", "becomes"),
        [
            ("requeue", "requeued", "dead", "pending"),
            ("release", "released", "claimed", "pending"),
            ("discard", "discarded", "dead", "discarded"),
        ],
    )
    def test_confirmed_action_is_logged_with_its_user(
        self, staff: Staff, caplog: pytest.LogCaptureFixture, action: str, word: str, status: str, becomes: str
    ) -> None:
        caplog.set_level(logging.INFO, "es_django.outbox")
        row = message(status)
        client = staff("view_outboxmessage", f"{action}_outboxmessage")
        assert confirm(client, action, row) == [f"1 message was {word}."]
        assert statuses() == [becomes]
        entry = LogEntry.objects.get()
        assert entry.user.get_username() == "staff"
        assert (entry.object_id, entry.change_message) == (str(row.pk), f"{word.capitalize()}: was {status}")
        assert f"message {row.message_id} was {word} by staff" in caplog.text

    def test_fault_c5_an_action_takes_a_limited_number_of_rows_and_says_so(
        self, superuser: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(confirmation, "MAX_SELECTED", 2)
        rows = [message("dead") for _ in range(3)]
        page = Page(choose(superuser, "requeue", *rows).content.decode())
        assert "Only the first 2 of the selected rows are included." in page.text
        assert confirm(superuser, "requeue", *rows) == ["2 messages were requeued."]
        assert sorted(statuses()) == ["dead", "pending", "pending"]

    def test_each_action_has_its_own_permission(self, staff: Staff) -> None:
        row = message("dead")
        client = staff("view_outboxmessage", "requeue_outboxmessage")
        page = Page(client.get(list_url(OutboxMessage)).content.decode())
        assert [option.attributes["value"] for option in page.all("option")] == ["", "requeue"]
        assert choose(client, "discard", row, confirmed="yes").status_code == 403
        assert statuses() == ["dead"]


class TestSelection:
    def test_skipped_messages_are_counted_with_reasons(self, superuser: Client) -> None:
        rows = [message(status) for status in ("dead", "dead", "published", "pending", "pending")]
        assert confirm(superuser, "requeue", *rows) == [
            "2 messages were requeued.",
            "3 messages were skipped: 2 are pending, 1 is published; only dead messages can be requeued.",
        ]
        assert LogEntry.objects.count() == 2

    def test_message_that_left_the_filter_is_skipped_with_a_reason(self, superuser: Client) -> None:
        dead, requeued, gone = message("dead"), message("pending"), message("dead")
        OutboxMessage.objects.filter(pk=gone.pk).delete()
        chosen = choose(superuser, "requeue", dead, requeued, gone, filtered="?status=dead", confirmed="yes")
        assert chosen.status_code == 302
        assert said(superuser) == [
            "1 row was skipped: no longer there.",
            "1 message was requeued.",
            "1 message was skipped: 1 is pending; only dead messages can be requeued.",
        ]

    @pytest.mark.parametrize("model", [OutboxMessage, InboxReceipt, ProjectionCheckpoint])
    @pytest.mark.parametrize("nonsense", ["x", "", "1.5", "9" * 40, "\x00"])
    @pytest.mark.parametrize("confirmed", [{}, {"confirmed": "yes"}])
    def test_rows_with_invalid_keys_are_not_selected(
        self, superuser: Client, model: type[Any], nonsense: str, confirmed: dict[str, str]
    ) -> None:
        action = {OutboxMessage: "requeue", InboxReceipt: "replay_selected", ProjectionCheckpoint: "pause"}[model]
        query = {"action": action, "index": "0", "_selected_action": [nonsense], **confirmed}
        assert superuser.post(list_url(model), query).status_code < 500
        ticked = message("dead")
        choose(superuser, "requeue", ticked, _selected_action=[nonsense, ticked.pk], confirmed="yes")
        assert statuses() == ["pending"]

    def test_only_selected_rows_change(self, superuser: Client) -> None:
        ticked, other = message("dead"), message("dead")
        choose(superuser, "requeue", ticked, confirmed="yes", select_across="1")
        other.refresh_from_db()
        assert other.status == "dead"


class TestFilters:
    def test_state_filter_finds_the_messages_of_one_state(self, get: Get) -> None:
        one_of_each = {
            "ready": message(),
            "scheduled": in_a_minute(),
            "backing_off": in_a_minute(attempts=2),
            "in_flight": message("claimed", claimed_until=timezone.now() + timedelta(minutes=1)),
            "abandoned": message("claimed"),
            "published": message("published"),
            "dead": message("dead"),
            "discarded": message("discarded"),
        }
        assert set(one_of_each) == set(MessageState)
        for word, row in one_of_each.items():
            page = get(list_url(OutboxMessage), status=word)
            assert page.one("tbody").one("input").attributes["value"] == str(row.pk), word
        assert get(list_url(OutboxMessage), status="pending").column("attempts") == ["2", "0", "0"]

    def test_backing_off_message_shows_its_next_attempt(self, get: Get) -> None:
        in_a_minute(attempts=2)
        assert get(list_url(OutboxMessage)).column("step")[0].startswith("retry due")

    def test_age_filter_finds_newer_or_older_messages(self, get: Get) -> None:
        ages = [timedelta(days=2), timedelta(hours=2), timedelta(minutes=2), timedelta()]
        rows = [message(created_at=timezone.now() - age, type=str(age)) for age in ages]
        newest_first = [row.type for row in reversed(rows)]
        for word, expected in {
            "hour": newest_first[:2],
            "day": newest_first[:3],
            "older-than-hour": newest_first[2:],
            "older-than-day": newest_first[3:],
            "nonsense": [],
        }.items():
            assert get(list_url(OutboxMessage), age=word).column("type") == expected, word
