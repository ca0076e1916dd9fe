"""Users with the permission replay dead messages from the admin, and each replay is logged with its user."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.http import HttpResponse
from django.test import Client

from es_django import Message
from es_django.models import InboxReceipt
from tests.admin.builders import list_url, page_url
from tests.admin.pages import Page
from tests.inbox.deliveries import consumer, dead, effects, failing, make_message

URL = list_url(InboxReceipt)
Staff = Callable[..., Client]


@pytest.fixture(autouse=True)
def _only_the_handlers_of_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("es_django.inbox.handlers._handlers", {})


@pytest.fixture
def operator(staff: Staff) -> Client:
    return staff("view_inboxreceipt", "replay_inboxreceipt")


def choose(client: Client, *receipts: InboxReceipt, **more: str) -> HttpResponse:
    selected = {"action": "replay_selected", "_selected_action": [receipt.pk for receipt in receipts], "index": "0"}
    response: Any = client.post(URL, {**selected, **more})
    return response  # type: ignore[no-any-return]


def confirm(client: Client, *receipts: InboxReceipt, **more: str) -> Page:
    """Return the list page with the messages about the replay."""
    response = choose(client, *receipts, confirmed="yes", **more)
    assert response.status_code == 302
    return Page(client.get(response["Location"]).content.decode())


def said(page: Page) -> list[str]:
    return [message.text for message in page.one("ul.messagelist").all("li")]


class TestPermissions:
    def test_list_offers_replay_with_permission(self, operator: Client) -> None:
        dead(make_message())
        html = operator.get(URL).content.decode()
        assert 'value="replay_selected"' in html
        assert "delete_selected" not in html

    def test_view_permission_does_not_allow_replay(self, staff: Staff) -> None:
        receipt, client = dead(make_message()), staff("view_inboxreceipt")
        consumer("mailer")
        assert 'name="action"' not in client.get(URL).content.decode()
        assert choose(client, receipt).status_code == 403
        assert choose(client, receipt, confirmed="yes").status_code == 403
        assert effects() == 0
        receipt.refresh_from_db()
        assert receipt.status == "dead"

    def test_replay_needs_view_permission(self, staff: Staff) -> None:
        receipt = dead(make_message())
        consumer("mailer")
        assert choose(staff("replay_inboxreceipt"), receipt, confirmed="yes").status_code == 403
        assert effects() == 0


class TestReplay:
    def test_unconfirmed_replay_changes_nothing(self, operator: Client) -> None:
        receipt = dead(make_message())
        consumer("mailer")
        response = choose(operator, receipt)
        page = Page(response.content.decode())
        assert str(receipt) in page.text
        assert page.link("No, take me back") == URL
        assert effects() == 0
        inputs = [each.attributes for each in page.one("form.es-confirmation").all("input")]
        assert operator.post(URL, {each["name"]: each["value"] for each in inputs if "name" in each}).status_code == 302
        assert effects() == 1

    def test_summary_counts_each_outcome_and_states_reasons(self, superuser: Client) -> None:
        def handle(message: Message) -> None:
            if message.data == "bad":
                raise ValueError("still a <bug>")

        consumer("mailer", handle)
        good, bad, gone = dead(make_message()), dead(make_message(data="bad")), dead(make_message(), "gone")
        done = InboxReceipt.objects.create(consumer="mailer", message_id="done", status="handled")
        messages = said(confirm(superuser, good, bad, gone, done))
        assert messages[-1] == "Dead messages: 1 replayed, 1 failed again, 2 skipped."
        assert f"Message {bad} failed again: ValueError('still a <bug>')" in messages
        assert f"Message {done} was skipped: its status is handled, and only dead messages can be replayed." in messages
        assert f"Message {gone} was skipped: there is no handler for messages of type 'tests.noted'." in messages
        assert [row.status for row in InboxReceipt.objects.order_by("pk")] == ["handled", "dead", "dead", "handled"]

    def test_each_replay_is_logged_with_its_user(self, operator: Client) -> None:
        consumer("mailer")
        consumer("printer", failing(ValueError("a bug")))
        good, bad, gone = dead(make_message()), dead(make_message(), "printer"), dead(make_message(), "gone")
        confirm(operator, good, bad, gone)
        entries = LogEntry.objects.values_list("user__username", "object_id", "change_message")
        assert set(entries) == {
            ("staff", str(good.pk), "Replayed: handled"),
            ("staff", str(bad.pk), "Replayed: failed again"),
        }

    @pytest.mark.parametrize("error", [SystemExit(1), ConnectionError("gone"), ValueError("a \x00")])
    def test_any_exception_of_a_handler_is_reported(self, operator: Client, error: BaseException) -> None:
        receipt = dead(make_message())
        consumer("mailer", failing(error))
        assert said(confirm(operator, receipt))[-1] == "Dead messages: 0 replayed, 1 failed again, 0 skipped."


class TestSelection:
    def test_only_selected_rows_are_replayed(self, operator: Client) -> None:
        consumer("mailer")
        selected, other = dead(make_message()), dead(make_message())
        confirm(operator, selected, select_across="1")
        other.refresh_from_db()
        assert (other.status, effects()) == ("dead", 1)

    def test_empty_selection_replays_nothing(self, operator: Client) -> None:
        consumer("mailer")
        dead(make_message())
        confirm(operator)
        assert effects() == 0

    def test_get_request_never_replays(self, operator: Client) -> None:
        receipt = dead(make_message())
        consumer("mailer")
        query: dict[str, Any] = {"action": "replay_selected", "_selected_action": receipt.pk, "confirmed": "yes"}
        operator.get(URL, query)
        assert operator.post(page_url(receipt), query).status_code == 403
        assert effects() == 0

    def test_unknown_action_is_denied(self, operator: Client) -> None:
        receipt = dead(make_message())
        assert choose(operator, receipt, action="delete_selected", confirmed="yes").status_code == 403
        assert InboxReceipt.objects.exists()
