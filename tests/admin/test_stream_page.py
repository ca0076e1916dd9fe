from collections.abc import Callable
from datetime import datetime

import pytest
from django.test import Client

from es_django.admin.timeline import EVENTS_PER_PAGE
from es_django.models import Snapshot, Stream
from tests.admin.builders import notes, page_url, stored_event, stream_of
from tests.admin.pages import Element, Page

Get = Callable[..., Page]


def versions(page: Page) -> list[int]:
    return [int(each.text) for each in page.all("span.es-version")]


def events(page: Page) -> list[Element]:
    return page.one("ol.es-timeline").all("li")


def test_the_page_names_the_stream(get: Get) -> None:
    notes(3, category="ticket", key="Case 1")
    page = get(page_url(stream_of("Case 1", "ticket")))
    assert page.title.startswith("ticket Case 1 | Stream |")
    assert page.one("h1").text == "ticket Case 1"
    assert page.breadcrumbs == ["Home", "Event store", "Streams", "ticket Case 1"]
    assert page.facts["Version"] == "3"
    assert {"Created", "Updated"} <= page.facts.keys()
    assert "Archived" not in page.facts


def test_an_event_is_shown_with_all_that_an_operator_asks(get: Get) -> None:
    (event,) = notes(note={"text": "ok"}, user="ada", correlation_id="request-7", causation_id="event-6")
    (shown,) = events(get(page_url(stream_of())))
    assert shown.one("span.es-version").text == "1"
    assert shown.one("h3").text == "tests.admin.noted"
    facts = {pair.one("dt").text: pair.one("dd").text for pair in shown.one("dl").all("div")}
    assert facts == {
        "Position": str(event.position),
        "Schema version": "1",
        "User": "ada",
        "Correlation": "request-7",
        "Causation": "event-6",
    }
    assert datetime.fromisoformat(shown.one("time").attributes["datetime"]) == event.recorded_at
    assert shown.one("pre").raw_text == '{\n  "note": {\n    "text": "ok"\n  }\n}'
    assert shown.one("pre").attributes["tabindex"] == "0"


def test_events_of_other_streams_are_not_shown(get: Get) -> None:
    notes(2, key="a")
    notes(1, key="b")
    assert versions(get(page_url(stream_of("b")))) == [1]


def test_an_event_leads_to_its_page_and_back_to_its_place(get: Get) -> None:
    notes(60)
    url = page_url(stream_of())
    event = get(get(url, **{"from": 26}).follow(url, "tests.admin.noted"))
    assert event.facts["Version"] == "26"
    assert event.link("note note-1") == f"{url}?from=26#v26"
    assert any(each.attributes.get("id") == "v26" for each in get(url, **{"from": 26}).all("li"))


def test_events_come_oldest_first_and_are_paged_in_both_directions(get: Get) -> None:
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


def test_events_come_newest_first_and_are_paged_in_both_directions(get: Get) -> None:
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
def test_there_are_pages_only_where_one_does_not_hold_all(get: Get, count: int) -> None:
    notes(count)
    page = get(page_url(stream_of()))
    assert (page.link("Newer") is not None) == (count > EVENTS_PER_PAGE)
    assert len(page.all("form.es-jump")) == (count > EVENTS_PER_PAGE)


@pytest.mark.parametrize(
    ("start", "first"), [("7", 7), ("60", 60), ("61", 60), ("9" * 40, 60), ("0", 1), ("-5", 1), ("x", 1), ("", 1)]
)
def test_any_version_can_be_gone_to_and_nonsense_is_harmless(get: Get, start: str, first: int) -> None:
    notes(60)
    assert versions(get(page_url(stream_of()), **{"from": start}))[0] == first


def test_a_stream_without_events_says_so(get: Get) -> None:
    stream = Stream.objects.create(category="note", key="empty", version=0)
    page = get(page_url(stream))
    assert "This stream has no events." in page.text
    assert page.facts["Version"] == "0"


def test_an_archived_stream_says_since_when(get: Get) -> None:
    notes()
    Stream.objects.update(archived_at=datetime.fromisoformat("2026-03-01T12:00:05Z"))
    assert get(page_url(stream_of())).facts["Archived"] == "2026-03-01 12:00:05 UTC"


def test_the_snapshot_is_linked(get: Get) -> None:
    notes(7)
    snapshot = Snapshot.objects.create(stream=stream_of(), version=5, schema="Note:1", state='{"text":"five"}')
    page = get(page_url(stream_of()))
    assert page.facts["Snapshot"] == "at version 5"
    assert page.link("at version 5") == page_url(snapshot)


ATTACK = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;"


def test_nothing_that_is_stored_is_taken_for_html(get: Get) -> None:
    notes(note={ATTACK: [ATTACK]}, key=ATTACK, category=ATTACK[:50], user=ATTACK, correlation_id=ATTACK)
    event = stored_event(1, ATTACK)
    for page in (get(page_url(event.stream)), get(page_url(event))):
        assert "<script>alert" not in page.html
        assert "<img src=x" not in page.html
        assert page.all("pre")[0].raw_text.count("</pre><script>alert(1)</script>") == 2


def test_a_payload_of_a_megabyte_is_cut_off_with_a_note(get: Get) -> None:
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


def test_a_payload_that_the_code_cannot_read_is_shown_all_the_same(get: Get, superuser: Client) -> None:
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
