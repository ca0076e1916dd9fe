from collections.abc import Callable
from datetime import datetime

from tests.admin.builders import notes, page_url, stored_event, stream_of
from tests.admin.pages import Page

Get = Callable[..., Page]


def test_the_page_tells_all_that_is_stored_of_an_event(get: Get) -> None:
    (event,) = notes(note="ok", user="ada", branch="12", correlation_id="request-7", causation_id="event-6")
    page = get(page_url(stored_event(1)))
    assert page.facts == {
        "Type": "tests.admin.noted",
        "Schema version": "1",
        "Stream": "note note-1",
        "Version": "1",
        "Position": str(event.position),
        "Recorded": page.one("dl.es-facts").one("time").text,
        "Event id": str(event.event_id),
        "Correlation id": "request-7",
        "Causation id": "event-6",
    }
    payload, metadata_shown = page.all("pre")
    assert payload.raw_text == '{\n  "note": "ok"\n}'
    assert sorted(metadata_shown.raw_text.replace(",", "").split("\n")) == [
        '  "branch": "12"',
        '  "user": "ada"',
        "{",
        "}",
    ]
    time = page.one("dl.es-facts").one("time")
    assert datetime.fromisoformat(time.attributes["datetime"]) == event.recorded_at
    assert page.link("note note-1") == f"{page_url(stream_of())}?from=1#v1"


def test_one_walks_along_the_stream(get: Get) -> None:
    notes(1, key="a")
    notes(1, key="b")
    notes(2, key="a")
    first, second, third = (stored_event(version, "a") for version in (1, 2, 3))
    page = get(page_url(second))
    assert page.link("Previous in stream") == page_url(first)
    assert page.link("Next in stream") == page_url(third)
    assert get(page_url(first)).link("Previous in stream") is None
    assert get(page_url(third)).link("Next in stream") is None


def test_times_are_in_the_zone_of_the_settings(get: Get, settings: object) -> None:
    notes()
    event = stored_event(1)
    settings.TIME_ZONE = "Asia/Tokyo"  # type: ignore[attr-defined]  # pytest-django's wrapper takes any name
    time = get(page_url(event)).one("dl.es-facts").one("time")
    assert time.text.endswith(" JST")
    assert datetime.fromisoformat(time.attributes["datetime"]) == event.recorded_at
