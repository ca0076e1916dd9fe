"""The statements of the outbox use indexes on a table of 200,000 messages, of which 1 % are open."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from es_django.monitoring.destinations import DestinationHealth, destinations
from es_django.outbox.backends import outbox_store
from es_django.outbox.database import DatabaseOutbox
from es_django.outbox.port import BATCH_BYTES, Claim, Settlement
from es_django.outbox.retention import prune_messages
from es_django.outbox.states import MessageState

pytestmark = pytest.mark.django_db(transaction=True)

TABLE = "es_django_outboxmessage"
MANY = 200_000

COLUMNS = "message_id, destination, type, key, data, headers, attempts, last_error, created_at, status, published_at"

# Every hundredth of the first messages is open. One in ten open messages has the key that most messages share.
FILL = {
    "postgresql": f"""
        INSERT INTO {TABLE} ({COLUMNS})
        SELECT gen_random_uuid(), 'tests', 'noted', CASE WHEN n %% 1000 = 0 THEN 'hot' ELSE 'key-' || n %% 5000 END,
               '{{}}', '{{}}', 1, '', now() - interval '8 days',
               CASE WHEN n %% 100 = 0 AND n <= %s THEN 'pending' ELSE 'published' END,
               CASE WHEN n %% 100 = 0 AND n <= %s THEN NULL ELSE now() - interval '8 days' END
          FROM generate_series(%s::bigint, %s::bigint) AS n
    """,
    "sqlite": f"""
        INSERT INTO {TABLE} ({COLUMNS})
        SELECT lower(hex(randomblob(16))), 'tests', 'noted',
               CASE WHEN n %% 1000 = 0 THEN 'hot' ELSE 'key-' || n %% 5000 END,
               '{{}}', '{{}}', 1, '', datetime('now', '-8 days'),
               CASE WHEN n %% 100 = 0 AND n <= %s THEN 'pending' ELSE 'published' END,
               CASE WHEN n %% 100 = 0 AND n <= %s THEN NULL ELSE datetime('now', '-8 days') END
          FROM (WITH RECURSIVE series (n) AS (SELECT %s UNION ALL SELECT n + 1 FROM series WHERE n < %s)
                SELECT n FROM series)
    """,
}


def fill(first: int, last: int, *, open_until: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(FILL[connection.vendor], [open_until, open_until, first, last])
        cursor.execute(f"ANALYZE {TABLE}")


@contextmanager
def undone() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def statements_of(action: Callable[[], Any]) -> list[str]:
    """Return the SQL statements that an action ran on the outbox."""
    with CaptureQueriesContext(connection) as queries:
        action()
    found = [query["sql"] for query in queries if TABLE in query["sql"]]
    assert found
    return found


def plan_of(sql: str) -> str:
    explain = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
    with undone(), connection.cursor() as cursor:
        cursor.execute(f"{explain} {sql.replace('%', '%%')}", [])
        return "\n".join(" ".join(map(str, row)) for row in cursor.fetchall())


def assert_by_index(sql: str) -> None:
    plan = plan_of(sql)
    assert re.search(r"(?i)index|primary key", plan), plan
    assert not re.search(
        r"Seq Scan on es_django_outboxmessage|SCAN (message|earlier|es_django_outboxmessage)$", plan, re.M
    ), plan


def claim(limit: int = 500) -> list[Claim]:
    return outbox_store().claim("tests", "a", limit=limit, lease=60)


@pytest.fixture
def _long_outbox(recorder: object) -> None:
    fill(1, MANY, open_until=MANY)


def cost_of_a_claim() -> int:
    """Return the cost of one claim: pages read on PostgreSQL, or steps of the virtual machine on SQLite."""
    if connection.vendor == "sqlite":
        steps = [0]

        def step() -> None:
            steps[0] += 1

        connection.ensure_connection()
        with undone():
            connection.connection.set_progress_handler(step, 100)
            run_claim("")
            connection.connection.set_progress_handler(None, 0)
        return steps[0]
    with undone():
        ((plan,),) = run_claim("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ")
    (top,) = json.loads(plan) if isinstance(plan, str) else plan
    return int(top["Plan"]["Shared Hit Blocks"] + top["Plan"]["Shared Read Blocks"])


def run_claim(prefix: str) -> list[Any]:
    store = outbox_store()
    assert isinstance(store, DatabaseOutbox)
    with connection.cursor() as cursor:
        parameters: dict[str, str | int] = {"destination": "tests", "worker": "a", "limit": 500, "lease": 60}
        parameters |= {"suspect_from": 2, "max_bytes": BATCH_BYTES}
        cursor.execute(prefix + store._sql.CLAIM, parameters)
        found: list[Any] = cursor.fetchall()
        return found


VACUUM = {"postgresql": "VACUUM ANALYZE", "sqlite": "ANALYZE"}
FUTURE = {"postgresql": "now() + interval '1 hour'", "sqlite": "datetime('now', '+1 hour')"}
QUEUES = {
    "behind a scheduled one": "key = 'hot', available_at = CASE WHEN id = {first} THEN {future} ELSE created_at END",
    "each backing off": "key = 'key-' || id, available_at = {future}",
}
MOST_COST = {"postgresql": 1.0, "sqlite": 0.25}
"""The allowed cost for each skipped message. To look up the first message of its key would cost twice as much."""


class TestQueryPlans:
    @pytest.mark.usefixtures("_long_outbox")
    def test_every_statement_of_the_outbox_uses_an_index(self) -> None:
        claims: list[Claim] = []
        statements = statements_of(lambda: claims.extend(claim()))
        assert len(claims) == 500
        statements += statements_of(lambda: outbox_store().extend("a", claims, lease=60))
        statements += statements_of(lambda: outbox_store().settle("a", [Settlement(each) for each in claims]))
        statements += statements_of(lambda: prune_messages(timedelta(days=7), batch_size=100, seconds=0.01))
        for statement in statements:
            assert_by_index(statement)

    @pytest.mark.requires_postgresql  # SQLite uses no partial index if the status is a parameter
    @pytest.mark.usefixtures("_long_outbox")
    def test_every_statement_of_the_health_uses_an_index(self) -> None:
        found: list[DestinationHealth] = []
        statements = statements_of(lambda: found.extend(destinations()))
        assert [(each.name, each.counts[MessageState.READY]) for each in found] == [("tests", MANY // 100)]
        for statement in statements:
            assert_by_index(statement)

    @pytest.mark.requires_postgresql  # SQLite scans the table from its end, which is fast enough for a small site
    @pytest.mark.usefixtures("_long_outbox")
    def test_a_list_of_the_admin_reads_no_more_than_it_shows(self) -> None:
        client = Client()
        client.force_login(User.objects.create_superuser("root"))
        page = reverse("admin:es_django_outboxmessage_changelist")
        for status in ("pending", "claimed", "dead", "discarded"):
            (statement,) = statements_of(partial(client.get, page, {"status": status}))
            assert_by_index(statement)
        for query in ({}, {"status": "published"}):
            # nearly all messages are published, so the database scans the table from its end until the page is full
            (statement,) = statements_of(partial(client.get, page, query))
            assert not re.search(r"Sort|Seq Scan", plan_of(statement))


class TestCostOfAClaim:
    @pytest.mark.usefixtures("recorder")
    def test_the_cost_does_not_grow_with_the_number_of_published_messages(self) -> None:
        fill(1, MANY // 10, open_until=MANY // 10)
        before = cost_of_a_claim()
        fill(MANY // 10 + 1, MANY, open_until=MANY // 10)
        assert cost_of_a_claim() < 2 * before, "with ten times the messages, an index is at most one level deeper"

    @pytest.mark.usefixtures("recorder")
    @pytest.mark.parametrize("queue", QUEUES)
    def test_a_long_queue_of_waiting_messages_is_skipped_cheaply(self, queue: str) -> None:
        length = 20_000
        fill(1, length, open_until=0)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT min(id) FROM {TABLE}")
            ((first,),) = cursor.fetchall()
            waits = QUEUES[queue].format(first=first, future=FUTURE[connection.vendor])
            cursor.execute(f"UPDATE {TABLE} SET status = 'pending', published_at = NULL, {waits}")
            # without VACUUM, the database would also read the old versions of the rows
            cursor.execute(f"{VACUUM[connection.vendor]} {TABLE}")
        assert claim() == []
        assert cost_of_a_claim() < MOST_COST[connection.vendor] * length
