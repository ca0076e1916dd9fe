"""`event_store` is the store of ES_DJANGO["DATABASE"], as if it had been looked up by whoever uses it."""

import asyncio

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection

from es_django import ANY, Event, StreamId, event_store
from es_django.testing import in_memory
from tests.threads import threads

STREAM = StreamId("default-store", "1")


class Kept(Event):
    class Meta:
        name = "default-store.kept"


def append() -> None:
    event_store.append(STREAM, [Kept()], expected=ANY)


def test_what_a_test_puts_in_place_of_a_method_stays_while_the_store_is_another_one() -> None:
    with pytest.MonkeyPatch.context() as patched, in_memory():
        patched.setattr(event_store, "version", lambda stream: 7)
        assert event_store.version(STREAM) == 7
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(event_store, "version", lambda stream: 7)
        with in_memory():
            assert event_store.version(STREAM) == 7
    with in_memory():
        assert event_store.version(STREAM) == 0


@pytest.mark.django_db(transaction=True)
def test_code_of_an_event_loop_is_told_to_go_elsewhere_though_its_thread_has_a_connection() -> None:
    async def handle() -> None:
        append()

    append()
    with pytest.raises(SynchronousOnlyOperation):
        asyncio.run(handle())
    assert event_store.version(STREAM) == 1


@pytest.mark.requires_postgresql
@pytest.mark.django_db(transaction=True)
def test_a_connection_that_was_lost_is_replaced_before_an_append_where_health_is_checked() -> None:
    append()
    connection.health_check_enabled = True  # type: ignore[attr-defined]
    connection.health_check_done = False  # type: ignore[attr-defined]
    pid = connection.connection.info.backend_pid

    def end_session() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])

    with threads(1) as submit:
        submit(end_session).result(30)
    append()
    assert event_store.version(STREAM) == 2
    connection.close()
