"""Dead messages are replayed from the admin by those who may, and it is recorded who did."""

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
    """The list with what it says about the replay."""
    response = choose(client, *receipts, confirmed="yes", **more)
    assert response.status_code == 302
    return Page(client.get(response["Location"]).content.decode())


def said(page: Page) -> list[str]:
    return [message.text for message in page.one("ul.messagelist").all("li")]


def test_the_list_offers_to_replay(operator: Client) -> None:
    dead(make_message())
    html = operator.get(URL).content.decode()
    assert 'value="replay_selected"' in html
    assert "delete_selected" not in html


def test_who_may_only_view_neither_sees_the_action_nor_can_run_it(staff: Staff) -> None:
    receipt, client = dead(make_message()), staff("view_inboxreceipt")
    consumer("mailer")
    assert 'name="action"' not in client.get(URL).content.decode()
    assert choose(client, receipt).status_code == 403
    assert choose(client, receipt, confirmed="yes").status_code == 403
    assert effects() == 0
    receipt.refresh_from_db()
    assert receipt.status == "dead"


def test_who_may_not_even_view_cannot_replay(staff: Staff) -> None:
    receipt = dead(make_message())
    consumer("mailer")
    assert choose(staff("replay_inboxreceipt"), receipt, confirmed="yes").status_code == 403
    assert effects() == 0


def test_nothing_happens_before_it_is_confirmed(operator: Client) -> None:
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


def test_it_tells_how_many_were_replayed_failed_again_and_were_skipped_and_why(superuser: Client) -> None:
    def handle(message: Message) -> None:
        if message.data == "bad":
            raise ValueError("still a <bug>")

    consumer("mailer", handle)
    good, bad, gone = dead(make_message()), dead(make_message(data="bad")), dead(make_message(), "gone")
    done = InboxReceipt.objects.create(consumer="mailer", message_id="done", status="handled")
    messages = said(confirm(superuser, good, bad, gone, done))
    assert messages[-1] == "Dead messages: 1 replayed, 1 failed again, 2 skipped."
    assert f"Message {bad} failed again: ValueError('still a <bug>')" in messages
    assert f"Message {done} was skipped: it is handled." in messages
    assert f"Message {gone} was skipped: there is no handler for messages of type 'tests.noted'." in messages
    assert [row.status for row in InboxReceipt.objects.order_by("pk")] == ["handled", "dead", "dead", "handled"]


def test_each_replay_is_recorded_with_who_did_it(operator: Client) -> None:
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
def test_no_handler_breaks_the_page(operator: Client, error: BaseException) -> None:
    receipt = dead(make_message())
    consumer("mailer", failing(error))
    assert said(confirm(operator, receipt))[-1] == "Dead messages: 0 replayed, 1 failed again, 0 skipped."


def test_only_what_was_selected_is_replayed_whatever_the_request_says(operator: Client) -> None:
    consumer("mailer")
    selected, other = dead(make_message()), dead(make_message())
    confirm(operator, selected, select_across="1")
    other.refresh_from_db()
    assert (other.status, effects()) == ("dead", 1)


def test_nothing_selected_is_nothing_replayed(operator: Client) -> None:
    consumer("mailer")
    dead(make_message())
    confirm(operator)
    assert effects() == 0


def test_reading_with_get_never_replays(operator: Client) -> None:
    receipt = dead(make_message())
    consumer("mailer")
    query: dict[str, Any] = {"action": "replay_selected", "_selected_action": receipt.pk, "confirmed": "yes"}
    operator.get(URL, query)
    assert operator.post(page_url(receipt), query).status_code == 403
    assert effects() == 0


def test_any_other_action_is_refused(operator: Client) -> None:
    receipt = dead(make_message())
    assert choose(operator, receipt, action="delete_selected", confirmed="yes").status_code == 403
    assert InboxReceipt.objects.exists()
