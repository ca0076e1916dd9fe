"""On a log of 200,000 events, pages need as few queries as on an empty log, and no query reads a whole table."""

import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from django.contrib.admin import site
from django.db import connection
from django.db.models import Model
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import Settings

from es_django.admin.base import ReadOnlyAdmin
from es_django.admin.outbox import NEWEST
from es_django.models import InboxReceipt, OutboxMessage, StoredEvent, Stream
from es_django.outbox.states import MessageState
from es_django.projections.base import registered_projections
from tests.admin.builders import list_url, message, page_url, stored_event
from tests.admin.pages import Page
from tests.admin.test_queries import LOGIN

Get = Callable[..., Page]

# One stream has 100,000 events, and 1,000 streams have 100 events each. Successive events are one second apart.
FILL_EVENTS = """
INSERT INTO es_django_event (stream_id, version, type, schema_version, data, metadata, correlation_id, event_id,
                             recorded_at)
WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 199999)
SELECT CASE WHEN n %% 2 = 0 THEN 1 ELSE 2 + n / 2 %% 1000 END,
       CASE WHEN n %% 2 = 0 THEN n / 2 + 1 ELSE n / 2000 + 1 END,
       CASE WHEN n %% 5000 = 0 THEN 'tests.admin.reminded' ELSE 'tests.admin.noted' END, 1, '{{"note": 1}}',
       '{{"user": "ada"}}', CASE WHEN n %% 3 = 0 THEN 'request-' || n END, {uuid}, {time}
  FROM numbers ORDER BY n
"""
FILL_STREAMS = """
INSERT INTO es_django_stream (id, category, key, version, created_at, updated_at)
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1001)
SELECT n, 'note', 'note-' || n, CASE WHEN n = 1 THEN 100000 ELSE 100 END, {now}, {now} FROM numbers
"""
FILL_MESSAGES = """
INSERT INTO es_django_outboxmessage (message_id, destination, type, data, headers, stream_id, stream_version, status,
                                     attempts, last_error, available_at, created_at, published_at)
WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 99999)
SELECT {uuid}, 'ledger', 'tests.announced', '{{}}', '{{}}', 1, n + 1, 'published', 1, '', {time}, {time}, {time}
  FROM numbers ORDER BY n
"""
# Each third message has the key of an order, and each thousandth goes to another destination.
CHANGE_MESSAGES = """
UPDATE es_django_outboxmessage
   SET key = CASE WHEN id %% 3 = 0 THEN 'order-' || (id %% 500) END,
       destination = CASE WHEN id %% 1000 = 0 THEN 'rare' ELSE 'ledger' END
"""
FILL_RECEIPTS = """
INSERT INTO es_django_inboxreceipt (consumer, message_id, status, attempts, last_error, handled_at)
WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 99999)
SELECT 'mailer', 'message-' || n, 'handled', 1, '', {now} FROM numbers
"""
DIALECTS = {
    "postgresql": {
        "uuid": "lpad(to_hex(n), 32, '0')::uuid",
        "time": "now() - make_interval(secs => 200000 - n)",
        "now": "now()",
    },
    "sqlite": {
        "uuid": "printf('%%032x', n)",
        "time": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', (n - 200000) || ' seconds')",
        "now": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')",
    },
}


@pytest.fixture
def large_log(db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ES_DJANGO = {}
    of_project = {name: each for name, each in registered_projections().items() if not name.startswith("tests.")}
    monkeypatch.setattr("es_django.projections.base._registered", of_project)
    with connection.cursor() as cursor:
        for fill in (FILL_STREAMS, FILL_EVENTS, FILL_MESSAGES, CHANGE_MESSAGES, FILL_RECEIPTS):
            cursor.execute(fill.format(**DIALECTS[connection.vendor]), [])
        if connection.vendor == "postgresql":
            cursor.execute("SELECT setval(pg_get_serial_sequence('es_django_stream', 'id'), 1001)")
        cursor.execute("ANALYZE")
    for status in ("pending", "claimed", "dead"):
        message(status)


def pages() -> dict[str, tuple[str, dict[str, Any], int | None]]:
    """Yield the address of each page, its query string, and the number of SQL queries that it needs."""
    event, stream = stored_event(50_000), Stream.objects.get(pk=1)
    return {
        **searches_and_filters(),
        "overview": (reverse("admin:app_list", args=["es_django"]), {}, 27 + (connection.vendor == "postgresql")),
        "events": (list_url(StoredEvent), {"after": event.pk}, 1),
        "events of a correlation": (list_url(StoredEvent), {"q": "request-99999"}, 1),
        "event": (page_url(event), {}, 8),
        "streams": (list_url(Stream), {}, 2),
        "stream": (page_url(stream), {"from": 70_000}, 4),
        "events of a type": (page_url(stream), {"from": 70_000, "type": "tests.admin.reminded"}, 4),
        "newest of a type": (page_url(stream), {"order": "newest", "type": "no such type"}, 4),
        "state": (reverse("admin:es_django_stream_state", args=[7]), {"at": 60}, 4),
        "recent messages": (list_url(OutboxMessage), {"age": "hour"}, 4),
        "old messages": (list_url(OutboxMessage), {"age": "older-than-day"}, 4),
        **{f"messages {state}": (list_url(OutboxMessage), {"status": state.value}, 1) for state in MessageState},
    }


# A term for each meaning of a search, and a value that no row has.
SEARCHES: dict[type[Model], list[str]] = {
    StoredEvent: ["50000", "00000000-0000-0000-0000-00000000c350", "request-99999", "nothing"],
    Stream: ["note-7", "note note-7", "note", "nothing"],
    OutboxMessage: ["00000000-0000-0000-0000-00000000c350", "order-3", "note-7", "nothing"],
    InboxReceipt: ["message-50000", "/shop 17", "nothing"],
}


def admins() -> Iterator[tuple[type[Model], ReadOnlyAdmin[Any]]]:
    for model, registered in site._registry.items():
        if isinstance(registered, ReadOnlyAdmin):
            yield model, registered


def searches_and_filters() -> dict[str, tuple[str, dict[str, Any], int | None]]:
    """Return a list for each search and filter of each admin class, alone and together."""
    found: dict[str, tuple[str, dict[str, Any], int | None]] = {}
    for model, registered in admins():
        values: dict[str, list[str]] = {}
        for each in registered.list_filter:
            chosen = each(RequestFactory().get("/"), {}, model, registered)  # type: ignore[operator]
            offered = [str(value) for value, _ in chosen.lookup_choices]  # type: ignore[union-attr]
            values[str(chosen.parameter_name)] = [*offered, "rare", "nothing"]  # type: ignore[union-attr]
        queries = [{name: value} for name, offered in values.items() for value in offered]
        queries += (
            [dict(zip(values, pair, strict=True)) for pair in product(*values.values())] if len(values) > 1 else []
        )
        queries += [{"q": term, **query} for term in SEARCHES.get(model, []) for query in [{}, *queries[:2]]]
        found |= {f"{model.__name__} {query}": (list_url(model), query, None) for query in queries}
    return found


def rows_read_in_vain(sql: str) -> int:
    """Return the number of rows that PostgreSQL reads and drops to answer a query."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF) {sql}")
        return sum(
            int(number) for (line,) in cursor.fetchall() for number in re.findall(r"Rows Removed by .*: (\d+)", line)
        )


def reads_a_whole_table(sql: str, how: str) -> bool:
    if connection.vendor == "postgresql":
        return bool(re.search(r"Seq Scan on es_django_(event|outboxmessage|inboxreceipt)\b", how))
    # A scan in the order of the primary key stops when the page is full.
    return bool(re.search(r"SCAN es_django_(event|outboxmessage|inboxreceipt)\b", how)) and (
        "LIMIT" not in sql or "TEMP B-TREE" in how
    )


def plan(sql: str) -> str:
    if not sql.lstrip().startswith(("SELECT", "WITH")):
        return ""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {'QUERY PLAN ' if connection.vendor == 'sqlite' else ''}{sql}")
        return "\n".join(" ".join(map(str, row)) for row in cursor.fetchall())


class TestLargeLog:
    def test_fault_c6_the_test_knows_each_admin_with_a_search(self) -> None:
        searching = {model for model, each in admins() if type(each).search_lookups is not ReadOnlyAdmin.search_lookups}
        assert searching == SEARCHES.keys()
        for _, each in admins():
            assert (each.search_fields, each.date_hierarchy, each.sortable_by) == ((), None, ())

    @pytest.mark.usefixtures("large_log")
    def test_fault_c6_a_key_finds_published_messages_of_its_stream_and_recent_ones(self, get: Get) -> None:
        old = OutboxMessage.objects.order_by("id").first()
        assert old is not None
        OutboxMessage.objects.filter(pk=old.pk).update(key="note-1")
        message("published", key="recent", destination="rare")
        for term, wanted in (("note-1", OutboxMessage.objects.filter(key="note-1").count()), ("recent", 1)):
            assert len(get(list_url(OutboxMessage), q=term).column("type")) == wanted
        assert len(get(list_url(OutboxMessage), destination="rare").column("type")) > 1

    @pytest.mark.usefixtures("large_log")
    def test_no_page_scans_a_table_or_needs_more_queries_than_on_an_empty_log(self, get: Get) -> None:
        faults = []
        for name, (url, query, count) in pages().items():
            with CaptureQueriesContext(connection) as captured:
                get(url, **query)
            found = [each["sql"] or "" for each in captured][LOGIN:]
            if count is not None and len(found) != count:
                faults.append(f"{name}: {len(found)} queries, not {count}:\n" + "\n".join(each[:200] for each in found))
            plans = {sql: plan(sql) for sql in found}
            if connection.vendor == "postgresql" and ("q" in query or "destination" in query):
                faults += [
                    f"{name}: {sql[:300]} reads in vain"
                    for sql in plans
                    if plan(sql) and rows_read_in_vain(sql) > NEWEST
                ]
            faults += [f"{name}: {sql[:300]}\n{how}" for sql, how in plans.items() if reads_a_whole_table(sql, how)]
        assert not faults, "\n\n".join(faults)
        summary = get(reverse("admin:app_list", args=["es_django"])).one("p.es-summary").text
        # one event per second, minus the seconds for which the filling took
        assert 3_300 <= int(summary.split()[0].replace(",", "")) <= 3_600
        assert "at most 60 in a minute" in summary
