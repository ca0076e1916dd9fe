"""Every page of the admin is accessible, fits a narrow screen, and works without a mouse."""

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import reverse
from playwright.sync_api import Page, expect

from es_django.models import InboxReceipt, OutboxMessage, ProjectionCheckpoint, Snapshot, StoredEvent, Stream
from testproject.bank.models import Balance
from tests.admin.builders import checkpoint, list_url, message, notes, page_url, receipt, stored_event, stream_of
from tests.browser.conftest import Browse

pytestmark = pytest.mark.django_db(transaction=True)

Do = Callable[[Page], None]


def overview_url() -> str:
    return reverse("admin:app_list", args=["es_django"])


def state_url() -> str:
    return reverse("admin:es_django_stream_state", args=[stream_of().pk])


def everything() -> dict[str, str]:
    """Store rows that fill every part of a page, and return the address of each page."""
    notes(30, note={"text": "unbroken" * 60}, user="ada", correlation_id="c" * 100)
    event, stream = stored_event(30), stream_of()
    sent = message("published", stream=stream, stream_version=30, destination="d" * 100)
    notes(key="caused", causation_id=str(sent.message_id), correlation_id="c" * 100)
    message("dead", stream=stream, stream_version=30, last_error="e" * 500, key="k" * 200)
    message("claimed")
    dead = receipt(status="dead", message={"data": 1}, last_error="e" * 500)
    failed = checkpoint(name="statements", status="failed", last_error="e" * 500, failed_position=event.position)
    snapshot = Snapshot.objects.create(stream=stream, version=1, schema="Note:1", state='{"text": "note 1"}')
    notes(key="ada", category="account")
    balance = Balance.objects.create(account="ada", owner="Ada", balance=1)
    lists = (Stream, StoredEvent, Snapshot, OutboxMessage, InboxReceipt, ProjectionCheckpoint)
    pages = {"overview": overview_url(), "state": state_url(), "newest": f"{page_url(stream)}?order=newest"}
    pages |= {f"list of {model.__name__}": list_url(model) for model in lists}
    pages |= {type(row).__name__: page_url(row) for row in (stream, event, sent, dead, failed, snapshot)}
    return {**pages, "history": reverse("admin:bank_balance_history", args=[balance.pk])}


def choose(page: Page, model: type[Any], action: str) -> None:
    """Tick the first row of a list and choose an action."""
    page.goto(list_url(model))
    page.locator("input.action-select").first.check()
    page.get_by_label("Action:").select_option(action)
    with page.expect_navigation(wait_until="load"):
        page.get_by_role("button", name="Go", exact=True).click()


CONFIRMATIONS: dict[str, Do] = {
    "requeue": lambda page: choose(page, OutboxMessage, "requeue"),
    "replay": lambda page: choose(page, InboxReceipt, "replay_selected"),
    "skip": lambda page: choose(page, ProjectionCheckpoint, "skip"),
}


def faults(page: Page) -> list[str]:
    """Return the violations that axe finds, except those of Django's own breadcrumb links."""
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:150]}"
        for fault in found
        for node in fault["nodes"]
        if not (fault["id"] == "link-in-text-block" and page.locator(".breadcrumbs").locator(node["target"][0]).count())
        and not (fault["id"] == "link-in-text-block" and ".breadcrumbs" in node["target"][0])
    ]


class TestEveryPage:
    @pytest.mark.parametrize("color_scheme", ["light", "dark"])
    def test_pages_have_no_accessibility_violations(self, browse: Browse, color_scheme: str) -> None:
        urls = everything()
        found: dict[str, list[str]] = {}
        with browse(color_scheme=color_scheme) as page:
            for name, url in urls.items():
                page.goto(url)
                found[name] = faults(page)
            for name, ask in CONFIRMATIONS.items():
                ask(page)
                found[name] = faults(page)
        assert {name: each for name, each in found.items() if each} == {}

    def test_pages_fit_a_narrow_screen(self, browse: Browse) -> None:
        urls = everything()
        wide = []
        with browse(width=390) as page:
            for name, url in urls.items():
                page.goto(url)
                if page.evaluate("document.documentElement.scrollWidth") > 390:
                    wide.append(name)
            for name, ask in CONFIRMATIONS.items():
                ask(page)
                if page.evaluate("document.documentElement.scrollWidth") > 390:
                    wide.append(name)
        assert wide == []

    def test_pages_work_without_javascript(self, browse: Browse) -> None:
        urls = everything()
        with browse(javascript=False) as page:
            for url in urls.values():
                page.goto(url)
                expect(page.locator("#content")).to_be_visible()
            page.goto(f"{urls['state']}?at=7")
            page.get_by_label("Version", exact=True).fill("9")
            page.get_by_role("button", name="Go", exact=True).click()
            expect(page.get_by_role("heading", level=1)).to_contain_text("after version 9")


class TestKeyboard:
    def test_keyboard_moves_the_slider_of_versions(self, browse: Browse) -> None:
        notes(20)
        url = state_url()
        with browse() as page:
            page.goto(f"{url}?at=10")
            page.get_by_label("Slide to a version").focus()
            page.keyboard.press("ArrowRight")
            page.keyboard.press("ArrowRight")
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            expect(page.get_by_role("heading", level=1)).to_contain_text("after version 12")
            expect(page.get_by_role("row", name="edits")).to_contain_text("11")
            page.get_by_label("Version", exact=True).fill("3")
            page.keyboard.press("Enter")
            expect(page.get_by_role("row", name="text")).to_contain_text("note 3")
            page.get_by_role("link", name="Previous").press("Enter")
            expect(page.get_by_role("row", name="text")).to_contain_text("note 2")

    def test_keyboard_requeues_a_dead_message(self, browse: Browse) -> None:
        message("dead")
        with browse() as page:
            page.goto(overview_url())
            expect(page.locator(".es-overview")).to_contain_text("Outbox")
            page.goto(f"{list_url(OutboxMessage)}?status=dead")
            page.get_by_role("checkbox").nth(1).press("Space")
            page.get_by_label("Action:").select_option("requeue")
            page.get_by_role("button", name="Go", exact=True).press("Enter")
            expect(page.get_by_role("heading", level=1)).to_have_text("Requeue messages?")
            page.get_by_role("button", name="Yes, requeue them").press("Enter")
            expect(page.locator(".messagelist")).to_contain_text("1 message was requeued.")
        assert OutboxMessage.objects.get().status == "pending"


class TestNavigation:
    def test_links_lead_from_the_overview_to_a_problem(self, browse: Browse) -> None:
        notes(3)
        message("dead", destination="ledger")
        with browse() as page:
            page.goto(overview_url())
            expect(page.get_by_role("heading", name="Problems")).to_be_visible()
            expect(page.get_by_role("img", name="Events per minute. 3 events in the last hour")).to_be_visible()
            page.get_by_role("row", name="ledger").get_by_role("link", name="1").click()
            expect(page.locator("#result_list tbody tr")).to_have_count(1)
            expect(page.locator("#result_list")).to_contain_text("the mailbox is <full>")

    def test_links_lead_from_an_event_to_its_effects(self, browse: Browse) -> None:
        notes(key="a")
        sent = message("published", stream=stream_of("a"), stream_version=1)
        notes(key="b", causation_id=str(sent.message_id))
        url, caused = page_url(stored_event(1, "a")), stored_event(1, "b")
        with browse() as page:
            page.goto(url)
            page.locator(".es-tree").get_by_role("link", name="tests.admin.noted").click()
            expect(page.get_by_role("heading", level=1)).to_contain_text(str(caused))
            page.locator(".es-tree").get_by_role("link", name="tests.announced to ledger").click()
            expect(page.locator(".es-facts")).to_contain_text("Published")


class TestOutbox:
    @pytest.mark.parametrize("width", [1280, 1440])
    def test_long_type_leaves_room_for_time_and_error(self, browse: Browse, width: int) -> None:
        message(
            "dead",
            type="com.example." + "shipment_requested" * 4,
            destination="d" * 60,
            key="k" * 200,
            last_error="e" * 500,
        )
        with browse(width=width) as page:
            page.goto(list_url(OutboxMessage))
            for column in ("step", "error"):
                expect(page.locator(f"td.field-{column}")).to_be_in_viewport(ratio=1)

    @pytest.mark.parametrize("color_scheme", ["light", "dark"])
    def test_overview_marks_dead_messages_on_a_narrow_screen(self, browse: Browse, color_scheme: str) -> None:
        message("dead", destination="d" * 60)
        checkpoint(name="statements", status="failed", last_error="e" * 500, failed_position=1)
        with browse(width=390, color_scheme=color_scheme) as page:
            page.goto(overview_url())
            for panel in page.locator(".es-scrolling").all():
                assert panel.evaluate("panel => panel.scrollWidth <= panel.clientWidth")
            dead = page.locator("td a.es-alarm")
            expect(dead).to_be_visible()
            expect(page.locator("td[data-label='Oldest due for']").last).to_be_visible()
            color = page.locator(".es-trouble").evaluate("panel => getComputedStyle(panel).borderLeftColor")
            expect(dead).to_have_css("color", color)
