"""A page shows the state of an aggregate at any version, and marks the changed fields."""

from collections.abc import Callable

import pytest
from django.test import Client

from es_django.admin import time_travel
from es_django.models import Stream
from tests.admin.builders import notes, page_url, stored_event, stream_of
from tests.admin.pages import Page

Get = Callable[..., Page]


def state_url(key: str = "note-1", category: str = "note") -> str:
    return page_url(stream_of(key, category)).replace("/change/", "/state/")


def fields(page: Page) -> dict[str, list[str]]:
    """Return the value of each field after the version, and the former value if the version changed it."""
    rows = page.one("table.es-state").one("tbody").all("tr")
    return {row.one("th").text: [cell.text for cell in row.all("td")] for row in rows}


class TestState:
    def test_page_shows_the_state_after_a_version_and_marks_changes(self, get: Get) -> None:
        notes(2)
        notes(note={"title": "milk"})
        notes(note={"title": "milk"})
        url = state_url()
        assert fields(get(url, at=1)) == {"text changed": ['"note 1"', "null"], "edits changed": ["1", "0"]}
        assert fields(get(url, at=3)) == {
            "text changed": ['{ "title": "milk" }', '"note 2"'],
            "edits changed": ["3", "2"],
        }
        assert fields(get(url, at=4)) == {"text": ['{ "title": "milk" }', "unchanged"], "edits changed": ["4", "3"]}
        assert fields(get(url)) == fields(get(url, at=4))

    def test_stream_page_links_to_the_state_after_each_event(self, get: Get) -> None:
        notes(3)
        stream = get(page_url(stream_of()))
        assert stream.link("at any version") == state_url()
        page = get(stream.link("after version 2") or "")
        assert page.one("h1").text == "note note-1 after version 2"
        assert page.breadcrumbs == ["Home", "Event store", "Streams", "note note-1", "State"]
        assert page.link("tests.admin.noted") == page_url(stored_event(2))

    def test_values_are_escaped(self, get: Get) -> None:
        notes(note="<script>alert(1)</script>")
        page = get(state_url())
        assert "<script>alert" not in page.html
        assert fields(page)["text changed"][0] == '"<script>alert(1)</script>"'

    def test_large_value_is_cut(self, get: Get) -> None:
        notes(note=["x" * 100] * 10_000)
        page = get(state_url())
        assert len(page.html) < 60_000
        assert page.all("p.es-cut")[0].text.startswith("The first ")


class TestVersions:
    def test_links_and_slider_reach_every_version(self, get: Get) -> None:
        notes(5)
        page = get(state_url(), at=3)
        assert {label: page.link(label) for label in ("First", "Previous", "Next", "Last")} == {
            "First": "?at=1",
            "Previous": "?at=2",
            "Next": "?at=4",
            "Last": "?at=5",
        }
        slider, number = (each for each in page.all("input") if each.attributes.get("name") == "at")
        for field, kind in ((slider, "range"), (number, "number")):
            assert [field.attributes[name] for name in ("type", "min", "max", "value")] == [kind, "1", "5", "3"]
        assert {form.attributes["method"] for form in page.all("form.es-slide") + page.all("form.es-jump")} == {"get"}
        assert get(state_url(), at=1).link("Previous") is None
        assert get(state_url(), at=5).link("Next") is None

    @pytest.mark.parametrize(("at", "version"), [("0", 1), ("-3", 1), ("99", 3), ("9" * 40, 3), ("x", 3), ("", 3)])
    def test_invalid_version_is_replaced_by_a_valid_one(self, get: Get, at: str, version: int) -> None:
        notes(3)
        assert f"Version {version} of 3" in get(state_url(), at=at).text

    def test_long_stream_is_replayed_up_to_a_limit(self, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time_travel, "MAX_FOLDED_EVENTS", 3)
        notes(5)
        for url, version in ((state_url(), 5), (f"{state_url()}?at=4", 4)):
            page = get(url)
            assert page.one("h1").text == f"note note-1 after version {version}"
            error = f"Version {version} cannot be shown: this page replays only the first 3 events."
            assert page.one("pre.es-error").text == error
            assert page.all("table.es-state") == []
        assert [page.link(label) for label in ("Previous", "Next", "Last that can be shown")] == [
            "?at=3",
            None,
            "?at=3",
        ]
        page = get(state_url(), at=3)
        assert "This page replays only the first 3 of 5 events." in page.text
        assert fields(page)["edits changed"] == ["3", "2"]

    def test_stream_of_thousands_of_events_is_replayed(self, get: Get) -> None:
        for _ in range(2):
            notes(2_600)
        assert fields(get(state_url()))["edits changed"] == ["5200", "5199"]


class TestUnavailable:
    def test_error_of_an_applies_method_is_shown(self, get: Get) -> None:
        notes(1)
        notes(note="unreadable")
        page = get(state_url(), at=2)
        assert page.one("pre.es-error").text == "LookupError: no such <note>"
        assert fields(get(state_url(), at=1))["edits changed"] == ["1", "0"]

    def test_unreadable_event_is_named(self, get: Get) -> None:
        notes(1)
        stream = stream_of()
        event = stored_event(1)
        event.pk, event.version, event.type = None, 2, "no such class"
        event.event_id = "0192f0c1-0000-7000-8000-000000000001"
        event.data, event.metadata = {}, {}
        event.save(force_insert=True)
        Stream.objects.filter(pk=stream.pk).update(version=2)
        error = get(state_url()).one("pre.es-error").text
        assert error.startswith(
            "UnknownEventType: event 2 of stream 'note' 'note-1' (no such class) cannot be replayed"
        )

    def test_stream_without_aggregate_or_events_has_no_state(self, get: Get, superuser: Client) -> None:
        notes(category="nobody's")
        assert get(page_url(stream_of(category="nobody's"))).link("at any version") is None
        assert superuser.get(state_url(category="nobody's")).status_code == 404
        Stream.objects.create(category="note", key="empty", version=0)
        assert "This stream has no events." in get(state_url("empty")).text

    def test_page_needs_permission_to_view_events(self, staff: Callable[..., Client]) -> None:
        notes()
        client = staff("view_stream")
        assert client.get(state_url()).status_code == 403
        assert "at any version" not in client.get(page_url(stream_of())).content.decode()
