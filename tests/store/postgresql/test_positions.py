"""The last drawn position is never read too high, because a reader would then skip events."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from django.db import connection

from es_django import NO_STREAM, Event, StreamId, event_store
from es_django.store.postgresql import sql
from es_django.store.postgresql.sql import LAST_DRAWN
from tests.processes import run_processes
from tests.threads import threads, wait_until_a_query_waits_for_a_lock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requires_postgresql]

DRAWING = "SELECT count(nextval('es_django_event_position_seq')) FROM generate_series(1, 200)"
READING = f"SELECT {LAST_DRAWN}, nextval('es_django_event_position_seq') FROM generate_series(1, 500)"
READINGS = 600
DRAWERS = 4


class Drawn(Event):
    class Meta:
        name = "positions.drawn"


def append(key: str, events: int, **metadata: str) -> None:
    event_store.append(StreamId("positions", key), [Drawn()] * events, expected=NO_STREAM, metadata=metadata)


@contextmanager
def slow_appends_waiting() -> Iterator[None]:
    """Within the block, an append with the metadata `slow` stores its events but its statement does not end."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT pg_advisory_lock(77);
            CREATE FUNCTION wait_if_slow() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF NEW.metadata ? 'slow' THEN PERFORM pg_advisory_xact_lock_shared(77); END IF; RETURN NULL; END $$;
            CREATE TRIGGER wait_if_slow AFTER INSERT ON es_django_event FOR EACH ROW EXECUTE FUNCTION wait_if_slow();
            """
        )
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(77)")
            cursor.execute("DROP FUNCTION wait_if_slow CASCADE")


def draw(barrier: object, times: int) -> None:
    with connection.cursor() as cursor:
        for _ in range(times):
            cursor.execute(DRAWING)


class TestLastDrawn:
    @pytest.mark.slow
    def test_the_last_drawn_position_is_never_too_high_beside_other_writers(self) -> None:
        with threads(1) as submit, connection.cursor() as cursor:
            drawers = submit(run_processes, draw, [(2000,)] * DRAWERS)
            readings = 0
            while readings < READINGS or not drawers.done():
                cursor.execute(READING)
                assert [(last, drawn) for last, drawn in cursor.fetchall() if last >= drawn] == []
                readings += 1
            drawers.result()

    def test_floors_and_the_end_of_the_log_read_the_last_drawn_position(self) -> None:
        for statement in (sql.FLOOR, sql.FLOOR_ONCE, sql.END_OF_LOG):
            assert LAST_DRAWN in statement or "pg_sequence_last_value(found.oid)" in statement
            assert "FROM es_django_event_position_seq" not in statement


class TestFloor:
    @pytest.mark.parametrize("events", [1, 3])
    def test_an_append_in_autocommit_holds_the_log_back_while_it_is_in_flight(self, events: int) -> None:
        with threads(1) as submit:
            with slow_appends_waiting():
                slow = submit(partial(append, "slow", events, slow="yes"))
                wait_until_a_query_waits_for_a_lock()
                append("fast", 1)
                page = event_store.read_all(types=[Drawn])
            assert page.events == []
            slow.result(30)
        assert [each.stream.key for each in event_store.read_all(types=[Drawn]).events] == ["slow"] * events + ["fast"]
