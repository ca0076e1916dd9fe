"""On PostgreSQL a reader believes that no position above the last drawn one is taken, so it is never told too high."""

import pytest
from django.db import connection

from es_django.store import postgresql, postgresql_append
from es_django.store.positions import LAST_DRAWN
from tests.processes import run_processes
from tests.threads import threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requires_postgresql]

DRAWING = "SELECT count(nextval('es_django_event_position_seq')) FROM generate_series(1, 200)"
READING = f"SELECT {LAST_DRAWN}, nextval('es_django_event_position_seq') FROM generate_series(1, 500)"
READINGS = 600
DRAWERS = 4


def draw(barrier: object, times: int) -> None:
    with connection.cursor() as cursor:
        for _ in range(times):
            cursor.execute(DRAWING)


def test_the_last_drawn_position_is_never_told_too_high_while_others_draw() -> None:
    with threads(1) as submit, connection.cursor() as cursor:
        drawers = submit(run_processes, draw, [(2000,)] * DRAWERS)
        readings = 0
        while readings < READINGS or not drawers.done():
            cursor.execute(READING)
            assert [(last, drawn) for last, drawn in cursor.fetchall() if last >= drawn] == []
            readings += 1
        drawers.result()


def test_floors_and_the_end_of_the_log_are_told_by_it() -> None:
    for statement in (postgresql_append.FLOOR, postgresql_append.FLOOR_ONCE, postgresql.HIGHEST_POSITION):
        assert LAST_DRAWN in statement
        assert "FROM es_django_event_position_seq" not in statement
