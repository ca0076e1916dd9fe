"""`event_store` is the store of ES_DJANGO["DATABASE"], looked up at each use."""

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


class TestDefaultStore:
    def test_a_patched_method_stays_patched_in_a_store_in_memory(self) -> None:
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
    def test_an_event_loop_is_refused_even_if_its_thread_has_a_connection(self) -> None:
        async def handle() -> None:
            append()

        append()
        with pytest.raises(SynchronousOnlyOperation):
            asyncio.run(handle())
        assert event_store.version(STREAM) == 1

    @pytest.mark.requires_postgresql
    @pytest.mark.django_db(transaction=True)
    def test_a_health_check_replaces_a_lost_connection_before_an_append(self) -> None:
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
