"""The databases read a page of a long stream without reading other rows."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from es_django import NO_STREAM, StreamId, event_store
from es_django.store.sql import SNAPSHOT_AND_TAIL, STREAM, STREAM_BACKWARDS, TAIL
from tests.domain import Annotated

pytestmark = pytest.mark.django_db

LONG = StreamId("long", "stream")
IDENTITY = {"category": LONG.category, "key": LONG.key}
EVENTS, PAGE = 5_000, 10

READS: dict[str, tuple[str, Any]] = {
    "forwards": (STREAM, {**IDENTITY, "after": 1_000, "before": EVENTS, "limit": PAGE}),
    "backwards": (STREAM_BACKWARDS, {**IDENTITY, "after": 0, "before": 4_000, "limit": PAGE}),
    "a tail": (TAIL, {**IDENTITY, "after": 1_000, "limit": PAGE}),
    "a snapshot's tail": (SNAPSHOT_AND_TAIL, {**IDENTITY, "schema": "none", "limit": PAGE}),
}


@pytest.fixture(autouse=True)
def _a_long_stream() -> None:
    event_store.append(LONG, [Annotated(note=number) for number in range(EVENTS)], expected=NO_STREAM)
    for key in range(20):
        event_store.append(StreamId("long", f"other-{key}"), [Annotated(note=0)], expected=NO_STREAM)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


class TestQueryPlans:
    @pytest.mark.requires_postgresql
    @pytest.mark.parametrize("read", READS)
    def test_no_step_of_the_plan_reads_more_rows_than_the_page(self, read: str) -> None:
        statement, parameters = READS[read]
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            ((explained,),) = cursor.fetchall()
        plan = json.loads(explained) if isinstance(explained, str) else explained
        rows = {node["Node Type"]: node["Actual Rows"] for node in nodes(plan[0]["Plan"])}
        assert rows["Index Scan"] == rows["Limit"] == PAGE
        assert max(rows.values()) == PAGE

    @pytest.mark.requires_sqlite
    @pytest.mark.parametrize("read", ["forwards", "backwards", "a tail"])
    def test_the_index_returns_the_events_in_order(self, read: str) -> None:
        statement, parameters = READS[read]
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            steps = [row[-1] for row in cursor.fetchall()]
        assert any(step.startswith("SEARCH event USING INDEX") for step in steps)
        assert not any("TEMP B-TREE" in step for step in steps)
