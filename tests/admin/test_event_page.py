from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from es_django import Event, upcasts
from es_django.admin import causation
from es_django.models import StoredEvent, Stream
from tests.admin.builders import list_url, message, notes, page_url, stored_event, stream_of
from tests.admin.pages import Element, Page

Get = Callable[..., Page]


class Moved(Event):
    town: str
    country: str

    class Meta:
        name = "tests.admin.moved"
        version = 2


@upcasts(Moved, from_version=1)
def add_country(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "country": COUNTRIES[data["town"]]}


COUNTRIES = {"Lyon": "France"}


def stored(data: object, *, type: str = "tests.admin.moved", schema_version: int = 1) -> StoredEvent:
    """Store an event of an older schema version."""
    stream = Stream.objects.create(category="note", key=str(uuid4()), version=1)
    return StoredEvent.objects.create(
        stream=stream,
        version=1,
        type=type,
        schema_version=schema_version,
        data=data,
        metadata={},
        event_id=uuid4(),
        recorded_at=datetime.fromisoformat("2020-01-01T00:00:00Z"),
    )


def headings(page: Page) -> list[str]:
    return [each.text for each in page.all("h2")]


def tree(page: Page) -> list[Any]:
    """Return the heading of each node, with the nodes below it."""

    def below(parent: Element) -> list[Any]:
        items = [child for child in parent.children if isinstance(child, Element) and child.tag == "li"]
        return [(item.all("strong")[0].text, *(below(inner) for inner in lists(item))) for item in items]

    def lists(item: Element) -> list[Element]:
        return [child for child in item.children if isinstance(child, Element) and child.tag == "ul"]

    return below(page.one("ul.es-tree"))


def chain() -> tuple[StoredEvent, StoredEvent]:
    """Store an event, its message, the event that the message caused, and that event's dead message."""
    notes(key="a", correlation_id="request-7")
    first = stored_event(1, "a")
    sent = message("published", stream=first.stream, stream_version=1, type="first.announced")
    notes(key="b", correlation_id="request-7", causation_id=str(sent.message_id))
    second = stored_event(1, "b")
    message("dead", stream=second.stream, stream_version=1, type="second.announced")
    return first, second


class TestFacts:
    def test_page_shows_every_stored_value(self, get: Get) -> None:
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
            "Correlation id": "request-7 All events of this correlation",
            "Causation id": "event-6",
            "User": "ada",
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

    def test_fault_f4_the_name_of_a_user_is_looked_up(self, get: Get, settings: Settings) -> None:
        user = User.objects.create_user("ada")
        notes(user=str(user.pk))
        assert get(page_url(stored_event(1))).facts["User"] == f"ada ({user.pk})"
        settings.ES_DJANGO = {"METADATA_USER": "es_django.conf.settings"}
        assert get(page_url(stored_event(1))).facts["User"] == str(user.pk)

    @pytest.mark.parametrize("stranger", ["0", "-1", "1.0", str(2**70), "ada", " "])
    def test_fault_f4_a_user_that_is_not_found_is_shown_as_stored(self, get: Get, stranger: str) -> None:
        notes(user=stranger)
        assert get(page_url(stored_event(1))).facts["User"] == stranger.strip()

    def test_links_lead_to_the_previous_and_next_event(self, get: Get) -> None:
        notes(1, key="a")
        notes(1, key="b")
        notes(2, key="a")
        first, second, third = (stored_event(version, "a") for version in (1, 2, 3))
        page = get(page_url(second))
        assert page.link("Previous in stream") == page_url(first)
        assert page.link("Next in stream") == page_url(third)
        assert get(page_url(first)).link("Previous in stream") is None
        assert get(page_url(third)).link("Next in stream") is None

    def test_times_use_the_time_zone_of_the_settings(self, get: Get, settings: object) -> None:
        notes()
        event = stored_event(1)
        settings.TIME_ZONE = "Asia/Tokyo"  # type: ignore[attr-defined]  # pytest-django's wrapper takes any name
        time = get(page_url(event)).one("dl.es-facts").one("time")
        assert time.text.endswith(" JST")
        assert datetime.fromisoformat(time.attributes["datetime"]) == event.recorded_at

    def test_correlation_id_links_to_its_events(self, get: Get) -> None:
        first, second = chain()
        notes(key="c", correlation_id="request-8")
        page = get(page_url(first))
        url = page.link("All events of this correlation")
        assert url == f"{list_url(StoredEvent)}?q=request-7"
        assert get(url).column("position") == [str(second.position), str(first.position)]


class TestDecodedPayload:
    def test_older_payload_is_shown_as_stored_and_as_upcast(self, get: Get) -> None:
        page = get(page_url(stored({"town": "Lyon"})))
        as_stored, as_read, _ = page.all("pre")
        assert as_stored.raw_text == '{\n  "town": "Lyon"\n}'
        assert as_read.raw_text == '{\n  "town": "Lyon",\n  "country": "France"\n}'
        assert "As current code reads it: tests.admin.test_event_page.Moved" in headings(page)

    def test_current_payload_is_reported_as_unchanged(self, get: Get) -> None:
        notes()
        assert (
            get(page_url(stored_event(1))).one("p.es-read").text
            == "Current code reads this payload unchanged, as tests.admin.builders.Noted."
        )

    @pytest.mark.parametrize(
        ("columns", "error"),
        [
            ({"type": "no such class"}, "UnknownEventType: "),
            ({"schema_version": 9}, "UnsupportedEventVersion: "),
            ({"data": {"town": "Atlantis"}}, "UpcastError: "),
            ({"data": {"town": "Lyon"}, "schema_version": 2}, "UndecodableEvent: "),
        ],
    )
    def test_unreadable_event_shows_the_error(self, get: Get, columns: dict[str, Any], error: str) -> None:
        page = get(page_url(stored(**{"data": {"town": "Lyon"}, **columns})))
        assert "Current code cannot read this event" in headings(page)
        assert page.one("pre.es-error").text.startswith(error)
        assert '"town"' in page.all("pre.es-json")[0].raw_text

    def test_payload_over_the_limit_is_not_decoded(self, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("es_django.admin.decoded_event.MAX_CHARACTERS", 100)
        notes(note="x" * 200)
        assert (
            get(page_url(stored_event(1))).one("p.es-read").text
            == "The payload has more than 100 characters and is not decoded here."
        )


class TestCausation:
    def test_causes_and_effects_form_a_tree(self, get: Get) -> None:
        expected = [
            (
                "tests.admin.noted",
                [("first.announced to ledger", [("tests.admin.noted", [("second.announced to ledger",)])])],
            )
        ]
        for number, event in enumerate(chain()):
            page = get(page_url(event))
            assert tree(page) == expected
            (this,) = page.all("div.es-current")
            assert this.attributes["aria-current"] == "true"
            assert page.all("div.es-node").index(this) == 2 * number
        assert "✕ Dead" in page.text
        assert page.one("span.es-why").text == "the mailbox is <full>"

    def test_event_without_causes_and_effects_has_a_note(self, get: Get) -> None:
        notes(causation_id="a job of the night")
        page = get(page_url(stored_event(1)))
        assert "This event has no known cause, message or effect." in page.text

    def test_event_and_its_cause_show_the_same_tree(self, get: Get) -> None:
        (first,) = notes(key="a")
        notes(key="b", causation_id=str(first.event_id))
        for key in "ab":
            assert tree(get(page_url(stored_event(1, key)))) == [("tests.admin.noted", [("tests.admin.noted",)])]

    def test_tree_of_circular_causes_ends(self, get: Get) -> None:
        first, second = uuid4(), uuid4()
        for event_id, cause in ((first, second), (second, first)):
            event = stored({"town": "Lyon"})
            Stream.objects.filter(pk=event.stream_id).update(version=2)
            StoredEvent.objects.create(
                stream=event.stream,
                version=2,
                type=event.type,
                schema_version=1,
                data={"town": "Lyon"},
                metadata={},
                causation_id=str(cause),
                event_id=event_id,
                recorded_at=event.recorded_at,
            )
        assert get(page_url(StoredEvent.objects.get(event_id=first)))

    def test_large_tree_is_cut_with_a_note(self, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(causation, "MAX_EFFECTS", 3)
        (first,) = notes(key="a")
        notes(5, key="b", causation_id=str(first.event_id))
        page = get(page_url(stored_event(1, "a")))
        assert len(page.all("div.es-node")) == 4
        assert "Some causes or effects are not shown." in page.text
        notes(key="c")
        assert "Some causes or effects are not shown." not in get(page_url(stored_event(1, "c"))).text

    def test_tree_hides_messages_without_permission(self, staff: Callable[..., Client]) -> None:
        first, _ = chain()
        html = staff("view_storedevent").get(page_url(first)).content.decode()
        assert "announced to ledger" not in html
        assert "mailbox" not in html
        assert tree(Page(html))[0][1][0][0] == "(you may not view messages)"
