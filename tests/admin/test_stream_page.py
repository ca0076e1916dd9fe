from collections.abc import Callable
from datetime import datetime
from urllib.parse import urljoin

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from es_django import Event, StreamId, event_store
from es_django.admin import timeline
from es_django.admin.timeline import EVENTS_PER_PAGE
from es_django.models import Snapshot, Stream
from tests.admin.builders import Noted, notes, page_url, stored_event, stream_of
from tests.admin.pages import Element, Page

Get = Callable[..., Page]


def versions(page: Page) -> list[int]:
    return [int(each.text) for each in page.all("span.es-version")]


def events(page: Page) -> list[Element]:
    return page.one("ol.es-timeline").all("li")


class TestUsers:
    def test_fault_f4_the_names_of_all_users_take_one_query(self, get: Get) -> None:
        users = [User.objects.create_user(f"user-{number}") for number in range(3)]
        for user in users:
            notes(user=str(user.pk))
        url = page_url(stream_of())
        with CaptureQueriesContext(connection) as captured:
            page = get(url)
        assert all(f"{user.username} ({user.pk})" in page.text for user in users)
        assert sum('FROM "auth_user" WHERE "auth_user"."id" IN' in each["sql"] for each in captured) == 1


ATTACK = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;"


class Reminded(Event):
    class Meta:
        name = "tests.admin.reminded"


def mixed(count: int) -> None:
    """Store a stream in which every third event has another type."""
    for version in range(1, count + 1):
        event = Reminded() if version % 3 == 0 else Noted(note=version)
        event_store.append(StreamId("note", "note-1"), [event], expected=version - 1)


class TestStream:
    def test_title_names_the_stream(self, get: Get) -> None:
        notes(3, category="ticket", key="Case 1")
        page = get(page_url(stream_of("Case 1", "ticket")))
        assert page.title.startswith("ticket Case 1 | Stream |")
        assert page.one("h1").text == "ticket Case 1"
        assert page.breadcrumbs == ["Home", "Event store", "Streams", "ticket Case 1"]
        assert page.facts["Version"] == "3"
        assert {"Created", "Updated"} <= page.facts.keys()
        assert "Archived" not in page.facts

    def test_stream_without_events_has_a_note(self, get: Get) -> None:
        stream = Stream.objects.create(category="note", key="empty", version=0)
        page = get(page_url(stream))
        assert "This stream has no events." in page.text
        assert page.facts["Version"] == "0"

    def test_archived_stream_shows_the_time(self, get: Get) -> None:
        notes()
        Stream.objects.update(archived_at=datetime.fromisoformat("2026-03-01T12:00:05Z"))
        assert get(page_url(stream_of())).facts["Archived"] == "2026-03-01 12:00:05 UTC"

    def test_snapshots_are_linked(self, get: Get) -> None:
        notes(7)
        snapshot = Snapshot.objects.create(stream=stream_of(), version=5, schema="Note:1", state='{"text":"five"}')
        other = Snapshot.objects.create(stream=stream_of(), version=6, schema="Note:2", state='{"text":"six"}')
        page = get(page_url(stream_of()))
        assert page.facts["Snapshots"] == "at version 6, at version 5"
        assert page.link("at version 5") == page_url(snapshot)
        assert page.link("at version 6") == page_url(other)


class TestEvents:
    def test_event_shows_its_facts(self, get: Get) -> None:
        (event,) = notes(note={"text": "ok"}, user="ada", correlation_id="request-7", causation_id="event-6")
        (shown,) = events(get(page_url(stream_of())))
        assert shown.one("span.es-version").text == "1"
        assert shown.one("h3").text == "tests.admin.noted"
        facts = {pair.one("dt").text: pair.one("dd").text for pair in shown.one("dl").all("div")}
        assert facts == {
            "Position": str(event.position),
            "Schema version": "1",
            "State": "after version 1",
            "User": "ada",
            "Correlation": "request-7",
            "Causation": "event-6",
        }
        assert datetime.fromisoformat(shown.one("time").attributes["datetime"]) == event.recorded_at
        assert shown.one("pre").raw_text == '{\n  "note": {\n    "text": "ok"\n  }\n}'
        assert shown.one("pre").attributes["tabindex"] == "0"

    def test_other_streams_are_excluded(self, get: Get) -> None:
        notes(2, key="a")
        notes(1, key="b")
        assert versions(get(page_url(stream_of("b")))) == [1]

    def test_event_links_to_its_page_and_back(self, get: Get) -> None:
        notes(60)
        url = page_url(stream_of())
        event = get(get(url, **{"from": 26}).follow(url, "tests.admin.noted"))
        assert event.facts["Version"] == "26"
        assert event.link("note note-1") == f"{url}?from=26#v26"
        assert any(each.attributes.get("id") == "v26" for each in get(url, **{"from": 26}).all("li"))

    def test_stored_values_are_escaped(self, get: Get) -> None:
        notes(note={ATTACK: [ATTACK]}, key=ATTACK, category=ATTACK[:50], user=ATTACK, correlation_id=ATTACK)
        event = stored_event(1, ATTACK)
        for page in (get(page_url(event.stream)), get(page_url(event))):
            assert "<script>alert" not in page.html
            assert "<img src=x" not in page.html
            assert page.all("pre")[0].raw_text.count("</pre><script>alert(1)</script>") == 2

    def test_large_payload_is_cut_with_a_note(self, get: Get) -> None:
        notes(3, note=["x" * 100] * 10_000)
        page = get(page_url(stream_of()))
        assert len(page.html) < 60_000
        (note, *_) = page.all("p.es-cut")
        assert note.text.startswith("The first ")
        assert note.text.endswith("characters. Show more")
        assert page.link("Show more") == page_url(stored_event(1))

        event = get(page_url(stored_event(1)))
        assert 100_000 < len(event.html) < 300_000
        assert event.one("p.es-cut").text.startswith("The first ")

    def test_unreadable_payload_is_shown_as_stored(self, get: Get, superuser: Client) -> None:
        notes()
        Stream.objects.create(category="old", key="1", version=1).events.create(
            version=1,
            type="a type that no class has",
            schema_version=99,
            data=[1, {"free": None}],
            metadata={},
            event_id="0192f0c1-0000-7000-8000-000000000001",
            recorded_at=datetime.fromisoformat("2020-01-01T00:00:00Z"),
        )
        page = get(page_url(stream_of("1", "old")))
        assert page.one("h3").text == "a type that no class has"
        assert page.one("pre").raw_text == '[\n  1,\n  {\n    "free": null\n  }\n]'


class TestPages:
    def test_pages_start_with_the_oldest_events(self, get: Get) -> None:
        notes(60)
        url = page_url(stream_of())
        page = get(url)
        assert versions(page) == list(range(1, 26))
        assert "1\u201325 of 60" in page.text
        assert page.link("Older") is None
        url = page.follow(url, "Newer")
        assert versions(get(url)) == list(range(26, 51))
        url = get(url).follow(url, "Newer")
        assert versions(get(url)) == list(range(51, 61))
        assert get(url).link("Newer") is None
        url = get(url).follow(url, "Older")
        assert versions(get(url)) == list(range(26, 51))

    def test_reversed_pages_start_with_the_newest_events(self, get: Get) -> None:
        notes(60)
        url = page_url(stream_of())
        url = get(url).follow(url, "Newest first")
        page = get(url)
        assert versions(page) == list(range(60, 35, -1))
        assert "60\u201336 of 60" in page.text
        assert page.link("Newer") is None
        url = page.follow(url, "Older")
        assert versions(get(url)) == list(range(35, 10, -1))
        url = get(url).follow(url, "Older")
        assert versions(get(url)) == list(range(10, 0, -1))
        assert get(url).link("Older") is None
        url = get(url).follow(url, "Newer")
        assert versions(get(url)) == list(range(35, 10, -1))

    @pytest.mark.parametrize("count", [1, EVENTS_PER_PAGE, EVENTS_PER_PAGE + 1])
    def test_single_page_has_no_links(self, get: Get, count: int) -> None:
        notes(count)
        page = get(page_url(stream_of()))
        assert (page.link("Newer") is not None) == (count > EVENTS_PER_PAGE)
        versions_asked = [
            each for each in page.one("form.es-jump").all("input") if each.attributes.get("name") == "from"
        ]
        assert len(versions_asked) == (count > EVENTS_PER_PAGE)

    @pytest.mark.parametrize(
        ("start", "first"), [("7", 7), ("60", 60), ("61", 60), ("9" * 40, 60), ("0", 1), ("-5", 1), ("x", 1), ("", 1)]
    )
    def test_jump_to_a_version_starts_the_page_there(self, get: Get, start: str, first: int) -> None:
        notes(60)
        assert versions(get(page_url(stream_of()), **{"from": start}))[0] == first


class TestTypeFilter:
    def test_filter_shows_only_events_of_its_type(self, get: Get) -> None:
        mixed(10)
        url = page_url(stream_of())
        assert [each.text for each in get(url).one("select").all("option")] == [
            "All types",
            "tests.admin.noted",
            "tests.admin.reminded",
        ]
        page = get(url, type="tests.admin.reminded")
        assert versions(page) == [3, 6, 9]
        (chosen,) = (each for each in page.one("select").all("option") if "selected" in each.attributes)
        assert chosen.text == "tests.admin.reminded"
        assert versions(get(url, type="tests.admin.reminded", order="newest")) == [9, 6, 3]
        assert get(page.follow(url, "Newest first")).all("h3")[0].text == "tests.admin.reminded"

    @pytest.mark.parametrize("order", ["", "newest"])
    def test_pages_of_a_type_neither_skip_nor_repeat(
        self, get: Get, monkeypatch: pytest.MonkeyPatch, order: str
    ) -> None:
        monkeypatch.setattr(timeline, "EVENTS_PER_PAGE", 2)
        monkeypatch.setattr(timeline, "VERSIONS_PER_SEARCH", 10)
        mixed(40)
        url = f"{page_url(stream_of())}?type=tests.admin.reminded&order={order}"
        found = []
        while True:
            page = get(url)
            found += versions(page)
            if not (following := page.link("Older" if order else "Newer")):
                break
            url = urljoin(url, following)
        expected = list(range(3, 41, 3))
        assert found == (expected[::-1] if order else expected)

    def test_search_stops_after_a_number_of_versions(self, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(timeline, "VERSIONS_PER_SEARCH", 5)
        notes(12)
        page = get(page_url(stream_of()), type="tests.admin.reminded")
        assert "No event of type \u201ctests.admin.reminded\u201d among the searched events." in page.text
        assert "1\u20135 of 12 searched" in page.text
        assert page.link("Newer") == "?type=tests.admin.reminded&from=6"

    def test_impossible_type_finds_nothing(self, get: Get) -> None:
        notes(2)
        for nonsense in ("x\x00y", "' OR 1=1", "x" * 5_000):
            assert versions(get(page_url(stream_of()), type=nonsense)) == []
