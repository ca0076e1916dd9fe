"""Each page of a list starts after the last row of the page before, in the order of an index, for any URL."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client

from es_django.admin.streams import StreamAdmin
from es_django.models import OutboxMessage, StoredEvent, Stream
from tests.admin.builders import list_url, message, notes, one_of_each
from tests.admin.pages import Page

Get = Callable[..., Page]


@pytest.fixture
def three_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    for model in (Stream, StoredEvent, OutboxMessage):
        monkeypatch.setattr(admin.site.get_model_admin(model), "list_per_page", 3)


def walk(get: Get, url: str, column: str, link: str) -> list[list[str]]:
    """Return the cells of a column on each page. Start at `url` and follow `link` until a page lacks it."""
    pages = []
    while True:
        page = get(url)
        pages.append(page.column(column))
        if page.link(link) is None:
            return pages
        url = page.follow(url, link)


def last_page(get: Get, url: str) -> str:
    while (page := get(url)).link("Next") is not None:
        url = page.follow(url, "Next")
    return url


class TestStreams:
    def test_streams_are_ordered_by_category_and_key(self, get: Get) -> None:
        for category, key in (("b", "1"), ("a", "2"), ("b", "0"), ("a", "1")):
            notes(category=category, key=key)
        page = get(list_url(Stream))
        assert list(zip(page.column("category"), page.column("key"), strict=True)) == [
            ("a", "1"),
            ("a", "2"),
            ("b", "0"),
            ("b", "1"),
        ]

    def test_row_shows_version_and_times(self, get: Get) -> None:
        notes(3)
        page = get(list_url(Stream))
        assert page.column("version") == ["3"]
        assert page.column("archived") == ["-"]
        assert len(page.one("td.field-updated").all("time")) == 1
        assert page.title.startswith("Streams |")
        assert page.breadcrumbs == ["Home", "Event store", "Streams"]

    @pytest.mark.usefixtures("three_a_page")
    @pytest.mark.parametrize("count", [3, 4, 7])
    def test_next_and_previous_links_reach_every_row_once(self, get: Get, count: int) -> None:
        # The first category ends within a page, so the start of the next page must compare category and key together.
        for n in range(count):
            notes(category="a" if n < 2 else "b", key=f"{n}")
        keys = [str(n) for n in range(count)]
        forwards = [keys[n : n + 3] for n in range(0, count, 3)]
        assert walk(get, list_url(Stream), "key", "Next") == forwards

        backwards = walk(get, last_page(get, list_url(Stream)), "key", "Previous")
        assert sorted(key for page in backwards for key in page) == keys
        assert backwards[0] == forwards[-1]


class TestEvents:
    @pytest.mark.usefixtures("three_a_page")
    def test_newest_event_is_first(self, get: Get) -> None:
        positions = [str(event.position) for event in reversed(notes(8))]
        pages = [positions[n : n + 3] for n in range(0, 8, 3)]
        url = list_url(StoredEvent)
        assert walk(get, url, "position", "Next") == pages
        assert walk(get, last_page(get, url), "position", "Previous") == pages[::-1]

    @pytest.mark.parametrize("term", ["9" * 19, "9" * 20, "9" * 5000, "-1", "one"])
    def test_search_without_a_match_is_empty(self, superuser: Client, term: str) -> None:
        notes(1)
        response = superuser.get(list_url(StoredEvent), {"q": term})
        assert response.status_code == 200
        assert list(response.context["cl"].result_list) == []


class TestPages:
    @pytest.mark.usefixtures("three_a_page")
    def test_first_link_returns_to_the_first_page(self, get: Get) -> None:
        notes(8)
        url = last_page(get, list_url(StoredEvent))
        assert get(get(url).follow(url, "First")).column("version") == ["8", "7", "6"]

    @pytest.mark.usefixtures("three_a_page")
    def test_new_rows_do_not_shift_pages(self, get: Get) -> None:
        notes(5)
        url = get(list_url(StoredEvent)).follow(list_url(StoredEvent), "Next")
        notes(5)
        assert get(url).column("version") == ["2", "1"]

    @pytest.mark.usefixtures("three_a_page")
    def test_next_page_keeps_the_filter(self, get: Get) -> None:
        for n in range(4):
            message("dead", type=f"dead-{n}")
            message("published")
        url = f"{list_url(OutboxMessage)}?status=dead"
        assert walk(get, url, "type", "Next") == [["dead-3", "dead-2", "dead-1"], ["dead-0"]]

    @pytest.mark.usefixtures("three_a_page")
    def test_new_filter_starts_on_the_first_page(self, get: Get) -> None:
        for _ in range(4):
            message("dead")
        url = f"{list_url(OutboxMessage)}?status=dead"
        second = get(url).follow(url, "Next")
        assert get(second).link("Published") == "?status=published"

    @pytest.mark.usefixtures("three_a_page")
    def test_search_starts_on_the_first_page_and_keeps_the_filter(self, get: Get) -> None:
        for n in range(4):
            message("dead", key=f"{n}")
        url = f"{list_url(OutboxMessage)}?status=dead"
        form = get(get(url).follow(url, "Next")).all("form")[1]
        hidden = {
            each.attributes["name"]: each.attributes["value"] for each in form.all("input") if "name" in each.attributes
        }
        assert hidden == {"q": "", "status": "dead"}

    def test_single_page_has_no_links(self, get: Get) -> None:
        notes(3)
        page = get(list_url(StoredEvent))
        assert page.link("Next") is page.link("Previous") is page.link("First") is None

    def test_empty_page_links_to_the_first_page(self, get: Get) -> None:
        notes()
        page = get(list_url(Stream), after=["note", "note-1"])
        assert "This page is empty." in page.text
        assert page.link("First") == "?"

    def test_show_all_parameter_is_ignored(self, get: Get, three_a_page: None) -> None:
        notes(8)
        assert len(get(list_url(StoredEvent), all="").column("position")) == 3


class TestUrls:
    @pytest.mark.parametrize(
        "query",
        [
            {"after": "note"},
            {"after": ["note", "1", "2"]},
            {"before": "1"},
            {"after": ["a\x00", "b"]},
            {"after": ["x" * 256, "b"]},
        ],
    )
    def test_invalid_page_edge_returns_to_the_list(self, superuser: Client, query: dict[str, Any]) -> None:
        response = superuser.get(list_url(Stream), query)
        assert response.status_code == 302
        assert response["Location"] == f"{list_url(Stream)}?e=1"
        assert superuser.get(response["Location"]).status_code == 200

    @pytest.mark.parametrize("edge", ["x", "", "1.5", "9" * 30, "-" + "9" * 30, "\x00"])
    def test_non_numeric_position_returns_to_the_list(self, superuser: Client, edge: str) -> None:
        assert superuser.get(list_url(StoredEvent), {"after": edge}).status_code == 302

    @pytest.mark.parametrize(
        "query",
        [
            {"key__contains": "1"},
            {"version__gte": "1"},
            {"events__data__contains": "x"},
            {"snapshots__state": "x"},
            {"id": "1"},
        ],
    )
    def test_unknown_filters_are_answered_with_400(self, superuser: Client, query: dict[str, str]) -> None:
        notes()
        assert superuser.get(list_url(Stream), query).status_code == 400

    @pytest.mark.parametrize("query", [{"o": "3"}, {"o": "-1.2"}, {"all": ""}, {"p": "7"}, {"_facets": ""}])
    def test_order_parameter_is_ignored(self, get: Get, query: dict[str, str]) -> None:
        notes(1, key="b")
        notes(2, key="a")
        assert get(list_url(Stream), **query).column("key") == ["a", "b"]


class TestEveryModel:
    def test_empty_list_has_a_note(self, get: Get) -> None:
        assert "There are no streams." in get(list_url(Stream)).text

    def test_every_model_has_a_list(self, get: Get) -> None:
        for row in one_of_each():
            page = get(list_url(type(row)))
            assert len(page.one("tbody").all("tr")) == 1

    def test_autocomplete_requests_are_denied(self, superuser: Client) -> None:
        assert StreamAdmin.search_fields == ()
        query = {"app_label": "es_django", "model_name": "storedevent", "field_name": "stream", "term": ""}
        assert superuser.get("/admin/autocomplete/", query).status_code in (403, 404)
