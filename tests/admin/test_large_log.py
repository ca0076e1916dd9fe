"""On a log of 200,000 events, pages need as few queries as on an empty log, and no query reads a whole table."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import Settings

from es_django.models import OutboxMessage, StoredEvent, Stream
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
        for fill in (FILL_STREAMS, FILL_EVENTS, FILL_MESSAGES):
            cursor.execute(fill.format(**DIALECTS[connection.vendor]), [])
        if connection.vendor == "postgresql":
            cursor.execute("SELECT setval(pg_get_serial_sequence('es_django_stream', 'id'), 1001)")
        cursor.execute("ANALYZE")
    for status in ("pending", "claimed", "dead"):
        message(status)


def pages() -> dict[str, tuple[str, dict[str, Any], int]]:
    """Yield the address of each page, its query string, and the number of SQL queries that it needs."""
    event, stream = stored_event(50_000), Stream.objects.get(pk=1)
    return {
        "overview": (reverse("admin:app_list", args=["es_django"]), {}, 27 + (connection.vendor == "postgresql")),
        "events": (list_url(StoredEvent), {"after": event.pk}, 1),
        "events of a correlation": (list_url(StoredEvent), {"q": "request-99999"}, 1),
        "event": (page_url(event), {}, 7),
        "streams": (list_url(Stream), {}, 2),
        "stream": (page_url(stream), {"from": 70_000}, 4),
        "events of a type": (page_url(stream), {"from": 70_000, "type": "tests.admin.reminded"}, 4),
        "newest of a type": (page_url(stream), {"order": "newest", "type": "no such type"}, 4),
        "state": (reverse("admin:es_django_stream_state", args=[7]), {"at": 60}, 4),
        "recent messages": (list_url(OutboxMessage), {"age": "hour"}, 4),
        "old messages": (list_url(OutboxMessage), {"age": "older-than-day"}, 4),
        **{f"messages {state}": (list_url(OutboxMessage), {"status": state.value}, 1) for state in MessageState},
    }


def reads_a_whole_table(sql: str, how: str) -> bool:
    if connection.vendor == "postgresql":
        return bool(re.search(r"Seq Scan on es_django_(event|outboxmessage)\b", how))
    # A scan in the order of the primary key stops when the page is full.
    return "SCAN es_django_event" in how and ("LIMIT" not in sql or "TEMP B-TREE" in how)


def plan(sql: str) -> str:
    if not sql.lstrip().startswith(("SELECT", "WITH")):
        return ""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {'QUERY PLAN ' if connection.vendor == 'sqlite' else ''}{sql}")
        return "\n".join(" ".join(map(str, row)) for row in cursor.fetchall())


class TestLargeLog:
    @pytest.mark.usefixtures("large_log")
    def test_no_page_scans_a_table_or_needs_more_queries_than_on_an_empty_log(self, get: Get) -> None:
        faults = []
        for name, (url, query, count) in pages().items():
            with CaptureQueriesContext(connection) as captured:
                get(url, **query)
            found = [each["sql"] or "" for each in captured][LOGIN:]
            if len(found) != count:
                faults.append(f"{name}: {len(found)} queries, not {count}:\n" + "\n".join(each[:200] for each in found))
            plans = {sql: plan(sql) for sql in found}
            faults += [f"{name}: {sql[:300]}\n{how}" for sql, how in plans.items() if reads_a_whole_table(sql, how)]
        assert not faults, "\n\n".join(faults)
        summary = get(reverse("admin:app_list", args=["es_django"])).one("p.es-summary").text
        # one event per second, minus the seconds for which the filling took
        assert 3_300 <= int(summary.split()[0].replace(",", "")) <= 3_600
        assert "at most 60 in a minute" in summary
