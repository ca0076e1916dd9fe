from collections.abc import Callable

import pytest
from django.test import override_settings

from es_django.admin import streams
from es_django.admin.categories import stored_categories
from es_django.messages.cloudevents import message_id_of
from es_django.models import InboxReceipt, OutboxMessage, StoredEvent, Stream
from tests.admin.builders import list_url, message, notes, receipt
from tests.admin.pages import Page

Get = Callable[..., Page]


@pytest.fixture
def some_streams(db: None) -> None:
    for category, key in (("account", "1"), ("account", "10"), ("ticket", "1"), ("ticket", "Case 1"), ("x", "account")):
        notes(category=category, key=key)


class TestStreams:
    @pytest.mark.usefixtures("some_streams")
    @pytest.mark.parametrize(
        ("term", "found"),
        [
            ("1", ["account 1", "ticket 1"]),
            ("10", ["account 10"]),
            (" 10\t", ["account 10"]),
            ("ticket Case 1", ["ticket Case 1"]),
            ("Case 1", ["ticket Case 1"]),
            ("ticket", ["ticket 1", "ticket Case 1"]),
            ("account", ["x account"]),
            ("Case", []),
            ("%", []),
            ("case 1", []),
        ],
    )
    def test_search_by_a_complete_name_finds_the_stream(self, get: Get, term: str, found: list[str]) -> None:
        page = get(list_url(Stream), q=term)
        names = [f"{category} {key}" for category, key in zip(page.column("category"), page.column("key"), strict=True)]
        assert names == found

    @pytest.mark.usefixtures("some_streams")
    def test_search_keeps_the_selected_category(self, get: Get) -> None:
        assert get(list_url(Stream), q="1", category="ticket").column("category") == ["ticket"]


class TestCategories:
    @pytest.mark.usefixtures("some_streams")
    def test_categories_are_offered_as_filter(self, get: Get) -> None:
        page = get(list_url(Stream))
        assert [page.link(name) for name in ("account", "ticket", "x")] == [
            "?category=account",
            "?category=ticket",
            "?category=x",
        ]
        assert get(list_url(Stream), category="ticket").column("key") == ["1", "Case 1"]

    @pytest.mark.parametrize("category", ["nothing", "\x00", "", "x" * 10_000])
    def test_unknown_category_lists_no_streams(self, get: Get, category: str) -> None:
        notes()
        assert get(list_url(Stream), category=category).column("key") == []

    @pytest.mark.django_db
    def test_each_category_is_listed_once_in_order(self) -> None:
        for category, key in (("b", "1"), ("a", "1"), ("b", "2"), ("c", "1"), ("a", "2")):
            notes(category=category, key=key)
        assert stored_categories("default", 10) == ["a", "b", "c"]
        assert stored_categories("default", 2) == ["a", "b"]

    @pytest.mark.django_db
    def test_empty_store_has_no_categories(self) -> None:
        assert stored_categories("default", 10) == []

    def test_categories_beyond_the_limit_are_found_by_name(self, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streams, "LISTED_CATEGORIES", 2)
        for category in "abc":
            notes(category=category, key=f"of {category}")
        assert get(list_url(Stream)).link("c") is None
        page = get(list_url(Stream), q="c")
        assert page.column("key") == ["of c"]
        assert get(list_url(Stream), category="c").link("c") == "?category=c"


class TestOtherModels:
    def test_search_finds_an_event_by_position_and_by_id(self, get: Get) -> None:
        _, event, _ = notes(3)
        for term in (str(event.position), f" {event.event_id} ", event.event_id.hex):
            assert get(list_url(StoredEvent), q=term).column("version") == ["2"]
        for term in ("0", "9" * 30, "x", "tests.admin.noted"):
            assert get(list_url(StoredEvent), q=term).column("version") == []

    def test_search_finds_a_message_by_id_and_by_key(self, get: Get) -> None:
        wanted = message(type="wanted", key="key-1")
        message(type="other", key="key-2")
        message(type="keyed by an id", key=str(wanted.message_id)[:-1] + "z")
        for term in (str(wanted.message_id), f" {wanted.message_id}", "key-1"):
            assert get(list_url(OutboxMessage), q=term).column("type") == ["wanted"]
        assert get(list_url(OutboxMessage), q="key").column("type") == []

    def test_search_finds_a_message_whose_key_looks_like_an_id(self, get: Get) -> None:
        message(key="0192f0c1-0000-7000-8000-000000000001")
        assert len(get(list_url(OutboxMessage), q="0192f0c1-0000-7000-8000-000000000001").column("type")) == 1

    def test_search_finds_a_receipt_by_message_id(self, get: Get) -> None:
        wanted = receipt(consumer="wanted")
        receipt(consumer="other")
        assert get(list_url(InboxReceipt), q=wanted.message_id).column("consumer") == ["wanted"]

    def test_fault_e6_search_finds_a_receipt_by_source_and_id(self, get: Get) -> None:
        for source in ("/shop", "/bank"):
            receipt(consumer=f"of {source}", message_id=str(message_id_of(source, "17")))
        for term in ("/shop 17", " /shop  17 "):
            assert get(list_url(InboxReceipt), q=term).column("consumer") == ["of /shop"]

    def test_status_and_destination_filters_can_be_combined(self, get: Get) -> None:
        for status in ("dead", "published"):
            for destination in ("ledger", "customers"):
                message(status, destination=destination, type=f"{status} to {destination}")
        page = get(list_url(OutboxMessage), status="dead", destination="customers")
        assert page.column("type") == ["dead to customers"]
        assert get(page.follow(list_url(OutboxMessage), "Clear all filters")).column("type") != ["dead to customers"]

    def test_destinations_come_from_the_settings(self, get: Get) -> None:
        message(destination="former")
        configured = {"DESTINATIONS": {name: {"PUBLISHER": "tests.publishers.Recorder"} for name in ("one", "two")}}
        with override_settings(ES_DJANGO=configured):
            page = get(list_url(OutboxMessage))
            assert page.link("one") == "?destination=one"
            assert page.link("former") is None
            assert get(list_url(OutboxMessage), destination="former").column("destination") == ["former"]


class TestNoMatch:
    def test_page_says_that_nothing_matches(self, get: Get) -> None:
        notes()
        page = get(list_url(Stream), q="<b>nothing</b>")
        assert "No stream matches “<b>nothing</b>”." in page.text
        assert "<b>nothing" not in page.html

    def test_search_for_a_null_character_shows_an_error(self, get: Get) -> None:
        notes()
        assert "Null characters are not allowed." in get(list_url(Stream), q="a\x00b").text
