"""The app's first page shows the status of the event store, in sections that each need a view permission."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from es_django.admin.chart import EventsPerMinute
from es_django.models import OutboxMessage, StoredEvent, Stream
from es_django.outbox.states import MessageState
from tests.admin.builders import list_url, message, notes, page_url, receipt
from tests.admin.pages import Page

Get = Callable[..., Page]
Staff = Callable[..., Client]


def overview_url() -> str:
    return reverse("admin:app_list", args=["es_django"])


def sections(page: Page) -> list[str]:
    return [each.text for each in page.one("div.es-overview").all("h2")]


def row(page: Page, name: str) -> list[str]:
    (found,) = (each for each in page.all("tr") if each.all("th") and each.all("th")[0].text == name)
    return [cell.text for cell in found.all("td")]


def recorded(age: timedelta, count: int, *, first_position: int | None = None) -> None:
    """Store `count` events that were recorded `age` ago, in a new stream."""
    stream = Stream.objects.create(category="note", key=str(age), version=count)
    StoredEvent.objects.bulk_create(
        StoredEvent(
            position=first_position and first_position + version - 1,
            stream=stream,
            version=version,
            type="tests.admin.noted",
            schema_version=1,
            data={},
            metadata={},
            event_id=uuid4(),
            recorded_at=timezone.now() - age,
        )
        for version in range(1, count + 1)
    )


@pytest.fixture
def ledger(settings: object) -> None:
    settings.ES_DJANGO = {"DESTINATIONS": {"ledger": {"PUBLISHER": "tests.publishers.Recorder"}}}  # type: ignore[attr-defined]


def message_in(state: MessageState) -> OutboxMessage:
    later = timezone.now() + timedelta(minutes=1)
    columns: dict[MessageState, dict[str, Any]] = {
        MessageState.SCHEDULED: {"available_at": later},
        MessageState.BACKING_OFF: {"available_at": later, "attempts": 1},
        MessageState.IN_FLIGHT: {"claimed_until": later},
    }
    return message(state.status.value, **columns.get(state, {}))


class TestOutbox:
    @pytest.mark.usefixtures("ledger")
    def test_each_destination_shows_its_states(self, get: Get) -> None:
        later = timezone.now() + timedelta(minutes=1)
        message(available_at=timezone.now() - timedelta(minutes=2, seconds=5))
        message("claimed", claimed_until=later)
        message("claimed")
        for _ in range(3):
            message(available_at=later, attempts=1)
        message(available_at=later)
        message("dead")
        message("dead", destination="a former one")
        message("published")
        page = get(overview_url())
        assert row(page, "ledger")[:6] == ["1", "1", "3", "1", "1", "1 ✕"]
        assert row(page, "ledger")[6].startswith("2 min ")
        assert row(page, "a former one") == ["0", "0", "0", "0", "0", "1 ✕", "\u2013"]
        assert page.link("3") == f"{list_url(OutboxMessage)}?destination=ledger&status=backing_off"

    @pytest.mark.usefixtures("ledger")
    def test_each_count_equals_the_number_of_rows_behind_its_link(self, get: Get) -> None:
        for number, state in enumerate(MessageState, start=1):
            for _ in range(number):
                message_in(state)
        page = get(overview_url())
        (ledger,) = (each for each in page.all("tr") if each.all("th") and each.all("th")[0].text == "ledger")
        links = {cell.attributes["data-label"]: cell.one("a") for cell in ledger.all("td") if cell.all("a")}
        assert list(links) == ["Ready", "Scheduled", "Backing off", "In flight", "Abandoned", "Dead"]
        for label, link in links.items():
            listed = get(link.attributes["href"]).column("type")
            assert link.text.removesuffix(" ✕") == str(len(listed)), label

    @pytest.mark.usefixtures("ledger")
    def test_counts_stop_at_a_limit(self, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("es_django.monitoring.lag.MOST", 3)
        for _ in range(5):
            message()
            receipt(status="dead", message={})
        page = get(overview_url())
        assert row(page, "ledger")[0] == "3+"
        assert "Dead messages: 3+" in page.text


class TestChart:
    def test_summary_counts_the_events_of_the_bars(self, get: Get) -> None:
        recorded(timedelta(hours=3), 4)
        recorded(timedelta(minutes=30), 7)
        recorded(timedelta(minutes=10), 3)
        chart = get(overview_url()).one("figure.es-chart")
        assert len(chart.all("rect")) == 2
        summary = chart.one("p.es-summary").text
        assert summary.startswith("10 events in the last hour, at most 7 in a minute, at ")
        assert chart.one("svg").attributes["aria-label"] == f"Events per minute. {summary}"
        assert chart.one("svg").attributes["role"] == "img"
        heights = [float(bar.attributes["height"]) for bar in chart.all("rect")]
        assert heights == [100.0, 42.9]

    @pytest.mark.parametrize(("day", "hour"), [((2026, 10, 25), "02:30"), ((2026, 3, 29), "03:30")])
    def test_bars_show_local_time_across_a_clock_change(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch, db: None, day: tuple[int, int, int], hour: str
    ) -> None:
        settings.TIME_ZONE = "Europe/Berlin"
        now = datetime(*day, 1, 30, 20, tzinfo=UTC)
        monkeypatch.setattr(timezone, "now", lambda: now)
        for age in (90, 59, 30, 0):
            recorded(timedelta(minutes=age), 1)
        chart = EventsPerMinute.of_the_last_hour("default")
        assert [number for number, count in enumerate(chart.counts) if count] == [0, 29, 59]
        shown = [bar.summary for bar in chart.bars]
        assert shown[1] == ("02:00: 1" if day[1] == 10 else "03:00: 1")
        assert (shown[2], f"{chart.end:%H:%M}") == (f"{hour}: 1", hour)

    def test_unused_positions_are_not_counted_as_events(self, get: Get) -> None:
        recorded(timedelta(), 3, first_position=1_000)
        assert get(overview_url()).one("p.es-summary").text.startswith("3 events in the last hour")

    def test_empty_log_shows_no_events(self, get: Get) -> None:
        page = get(overview_url())
        assert page.one("p.es-summary").text == "No events in the last hour."
        assert page.one("div.es-overview").one("dl.es-facts").text == "Newest eventnone Safe endthe newest event"


class TestProblems:
    def test_problems_are_the_first_section(self, get: Get, settings: object) -> None:
        assert sections(get(overview_url()))[0] == "✓ No problems"
        settings.ES_DJANGO = {"DESTINATIONS": {"ledger": {"PUBLISHER": "tests.publishers.Recorder"}}}  # type: ignore[attr-defined]
        message("dead")
        page = get(overview_url())
        assert sections(page)[0] == "✕ Problems"
        assert "1 message to ledger is dead." in page.text

    def test_dead_inbox_messages_are_a_problem(self, get: Get) -> None:
        receipt(status="dead", message={})
        page = get(overview_url())
        assert sections(page)[0] == "✕ Problems"
        assert "1 inbox message is dead." in page.text


class TestProjections:
    def test_newest_event_and_lag_are_shown(self, get: Get) -> None:
        notes(3)
        newest = StoredEvent.objects.latest("position")
        page = get(overview_url())
        assert page.link(f"position {newest.position}") == page_url(newest)
        assert row(page, "statements")[:2] == ["✓ Running", "3"]
        assert row(page, "balances")[1] == "runs inline"


class TestPermissions:
    @pytest.mark.parametrize(
        ("permission", "section"),
        [
            ("view_storedevent", "Log"),
            ("view_outboxmessage", "Outbox"),
            ("view_projectioncheckpoint", "Projections"),
            ("view_inboxreceipt", "Inbox"),
        ],
    )
    def test_sections_need_view_permissions(self, staff: Staff, permission: str, section: str) -> None:
        page = Page(staff(permission).get(overview_url()).content.decode())
        assert sections(page) == [section]

    def test_without_permissions_only_models_are_listed(self, staff: Staff) -> None:
        html = staff("view_stream").get(overview_url()).content.decode()
        assert 'class="es-overview"' not in html

    def test_pages_of_other_apps_and_sites_have_no_overview(self, superuser: Client, rf: RequestFactory) -> None:
        assert b"es-overview" not in superuser.get(reverse("admin:app_list", args=["auth"])).content
        site = admin.AdminSite(name="other")
        site.register(StoredEvent, type(admin.site.get_model_admin(StoredEvent)))
        request = rf.get("/")
        request.user = User.objects.get(username="root")
        request.session = {}  # type: ignore[assignment]
        notes()
        response = site.app_index(request, "es_django")
        assert sections(Page(response.render().content.decode())) == ["Log"]
