"""Pages need few queries, and the cost of a query does not grow with the tables."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from es_django.models import (
    InboxReceipt,
    OutboxMessage,
    ProjectionCheckpoint,
    Snapshot,
    StoredEvent,
    Stream,
)
from tests.admin.builders import (
    checkpoint,
    list_url,
    message,
    notes,
    one_of_each,
    page_url,
    receipt,
    stored_event,
    stream_of,
)
from tests.admin.pages import Page

Get = Callable[..., Page]

LOGIN = 2
"""The number of queries of each request for the session and the user."""


@contextmanager
def queries(count: int | None = None) -> Iterator[list[str]]:
    """Collect the SQL on the event store's tables, and check that the block runs exactly `count` such queries."""
    found: list[str] = []
    with CaptureQueriesContext(connection) as captured:
        yield found
    found += [query["sql"] for query in captured if "es_django_" in query["sql"]]
    assert len(captured) == len(found) + LOGIN
    assert count is None or len(found) == count, "\n".join(found)


@pytest.fixture
def much(db: None) -> None:
    for n in range(30):
        notes(2, key=f"note-{n:02}", category="even" if n % 2 == 0 else "odd")
        message(stream=stream_of(f"note-{n:02}", "even" if n % 2 == 0 else "odd"), stream_version=1)
        receipt()
        checkpoint(name=f"projection {n}")
    for stream in Stream.objects.all():
        Snapshot.objects.create(stream=stream, version=1, schema="Note:1", state="{}")


def plan(sql: str) -> str:
    """Return the plan of a query as on a table that is long enough for an index to be used."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("ANALYZE es_django_stream, es_django_event, es_django_outboxmessage")
            cursor.execute(
                "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off"
            )
            cursor.execute(f"EXPLAIN {sql}")
        else:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        return "\n".join(" ".join(map(str, row)) for row in cursor.fetchall())


SEARCHES = r"Index Cond|SEARCH"
SORTS = r"\bSort\b|TEMP B-TREE"


class TestNumberOfQueries:
    @pytest.mark.usefixtures("much")
    @pytest.mark.parametrize(
        ("model", "count"),
        [
            (Stream, 2),  # one query for the categories and one for the rows
            (StoredEvent, 1),
            (Snapshot, 1),
            (OutboxMessage, 1),
            (InboxReceipt, 1),
            (ProjectionCheckpoint, 1),
        ],
    )
    def test_number_of_queries_of_a_list_does_not_grow_with_its_rows(
        self, get: Get, model: type[Any], count: int
    ) -> None:
        with queries(count):
            page = get(list_url(model))
        assert len(page.one("tbody").all("tr")) >= 30

    def test_stream_page_needs_four_queries(self, get: Get) -> None:
        notes(60)
        url = page_url(stream_of())
        with queries(4):  # one query each for the stream, its snapshots, its events and the event types
            get(url, order="newest", **{"from": 40})

    def test_event_page_needs_eight_queries(self, get: Get) -> None:
        notes(3)
        url = page_url(stored_event(2))
        # the event, its user, its stream, its neighbours, its documents, its upcast form; two for its effects
        with queries(8):
            get(url)

    def test_stream_search_needs_at_most_four_queries(self, get: Get) -> None:
        notes(key="1")
        with queries(4):  # two for the categories, one for the key and one for the rows
            get(list_url(Stream), q="1")


class TestPlans:
    @pytest.mark.usefixtures("much")
    def test_pages_use_no_count_offset_or_distinct(self, get: Get) -> None:
        rows = [stream_of("note-00", "even"), *one_of_each()]
        urls = [page_url(row) for row in rows] + [list_url(type(row)) for row in rows]
        urls += [
            f"{list_url(Stream)}?{query}" for query in ("q=note-01", "q=even", "category=odd", "after=even&after=x")
        ]
        urls += [f"{list_url(StoredEvent)}?{query}" for query in ("q=1", "before=5", "all=", "p=2", "_facets=True")]
        urls += [f"{list_url(OutboxMessage)}?{query}" for query in ("q=note-1", "status=dead&destination=ledger")]
        asked: list[str] = []
        for url in urls:
            with queries() as found:
                get(url)
            asked += found
        assert asked
        for sql in asked:
            assert not re.search(r"\bCOUNT\(|\bOFFSET\b|\bDISTINCT\b", sql, re.IGNORECASE), sql

    def test_list_query_is_limited_to_one_page(self, get: Get) -> None:
        for row in one_of_each():
            with queries() as found:
                get(list_url(type(row)))
            assert found[-1].endswith(" LIMIT 51"), found[-1]

    @pytest.mark.parametrize("model", [StoredEvent, OutboxMessage, Snapshot])
    def test_lists_do_not_load_documents(self, get: Get, model: type[Any]) -> None:
        one_of_each()
        with queries() as found:
            get(list_url(model))
        for column in ("data", "metadata", "headers", "state"):
            assert f'"{column}"' not in found[-1]

    @pytest.mark.usefixtures("much")
    @pytest.mark.parametrize(
        ("model", "query"),
        [
            (Stream, {"after": ["even", "note-10"]}),
            (Stream, {"before": ["odd", "note-15"]}),
            (Stream, {"category": "odd", "after": ["odd", "note-10"]}),
            (Stream, {"q": "note-10"}),
            (StoredEvent, {"after": "1000000"}),
        ],
    )
    def test_page_uses_an_index_without_a_sort(self, get: Get, model: type[Any], query: dict[str, Any]) -> None:
        with queries() as found:
            get(list_url(model), **query)
        how = plan(found[-1])
        assert re.search(SEARCHES, how), how
        if "q" not in query:  # a search finds few rows, so sorting them is cheap
            assert not re.search(SORTS, how), how

    @pytest.mark.usefixtures("much")
    def test_stream_page_reads_a_range_of_an_index(self, get: Get) -> None:
        url = page_url(stream_of("note-00", "even"))
        with queries(4) as found:
            get(url, **{"from": 2})
        for sql in found[2:]:
            how = plan(sql)
            assert "es_django_event_version" in how or "version>" in how or "stream_id=" in how, how
            assert not re.search(SORTS, how), how

    @pytest.mark.usefixtures("much")
    def test_each_category_costs_one_index_search(self, get: Get) -> None:
        with queries() as found:
            get(list_url(Stream))
        how = plan(found[0])
        assert re.search(SEARCHES, how), how
        assert not re.search(r"Seq Scan|HashAggregate", how), how
