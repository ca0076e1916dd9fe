"""On PostgreSQL, BEGIN travels with the first statement of a transaction."""

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import groupby
from pathlib import Path

import psycopg
import pytest
from django.db import close_old_connections, connection, transaction

from es_django import ANY, Event, PendingEvent, StorageError, StreamId, event_store
from es_django.errors import DuplicateEvent
from es_django.store.postgresql import prepared
from es_django.store.postgresql.execution import fetch
from tests.threads import threads, wait_until_a_query_waits_for_a_lock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requires_postgresql]

STREAM = StreamId("first-statement", "1")


class Begun(Event):
    """No projection follows this event, so its append is one statement."""

    class Meta:
        name = "first-statement.begun"


@pytest.fixture
def _interrupts_are_enabled() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt. A process that a shell started in the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _a_connection_of_its_own() -> Iterator[None]:
    connection.close()
    yield
    connection.close()


def append(*events: PendingEvent) -> None:
    event_store.append(STREAM, events or [Begun()], expected=ANY)


def turns(traced: Path) -> int:
    """Return how often the direction of the traffic in the trace changes."""
    return len(list(groupby(re.findall(r"\t([FB])\t", traced.read_text()))))


class TimeLimit(Exception):
    """An exception that a signal handler raises and a caller catches, like that of Celery's soft time limit."""


@pytest.fixture
def _time_limit() -> Iterator[None]:
    def ring(signum: int, frame: object) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGUSR1, ring)
    yield
    signal.signal(signal.SIGUSR1, before)


@contextmanager
def holding_the_stream() -> Iterator[None]:
    """Lock the stream in a transaction of another session."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT FROM es_django_stream WHERE key = %s FOR UPDATE", [STREAM.key])
            held.set()
            assert done.wait(60)

    with threads(1) as submit:
        holding = submit(hold)
        assert held.wait(30)
        try:
            yield
        finally:
            done.set()
        holding.result(30)


def signal_once_a_session_waits(thread: int, signum: signal.Signals) -> None:
    wait_until_a_query_waits_for_a_lock()
    signal.pthread_kill(thread, signum)


def end_session(pid: int, once_it_waits: bool) -> None:
    if once_it_waits:
        wait_until_a_query_waits_for_a_lock()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 30000)", [pid])


class TestBegin:
    @pytest.mark.parametrize("pipeline", [True, False], ids=["libpq 14", "an older libpq"])
    def test_begin_costs_no_extra_round_trip(
        self, pipeline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(psycopg.capabilities, "has_pipeline", lambda: pipeline)
        with transaction.atomic():
            append()
        pgconn = connection.connection.pgconn
        with (tmp_path / "trace").open("w") as trace, transaction.atomic():
            pgconn.trace(trace.fileno())
            append()
            pgconn.untrace()
        assert turns(tmp_path / "trace") == (2 if pipeline else 4)
        assert event_store.version(STREAM) == 2

    @pytest.mark.parametrize("level", psycopg.IsolationLevel, ids=lambda level: level.name.lower())
    def test_begin_uses_the_isolation_level_of_the_connection(self, level: psycopg.IsolationLevel) -> None:
        connection.ensure_connection()
        connection.connection.isolation_level = level
        with transaction.atomic():
            ((found,),) = fetch(connection, "SELECT current_setting('transaction_isolation')", {})
        assert found == level.name.lower().replace("_", " ")

    def test_the_first_statement_is_rolled_back_with_the_transaction(self) -> None:
        append()
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            append()
            raise ZeroDivisionError
        assert event_store.version(STREAM) == 1

    def test_a_failed_first_statement_affects_no_later_transaction(self) -> None:
        stored = PendingEvent(Begun())
        event_store.append(StreamId("first-statement", "other"), [stored], expected=ANY)
        append()
        with pytest.raises(DuplicateEvent), transaction.atomic():
            event_store.append(STREAM, [stored], expected=1)
        with transaction.atomic():
            append()
        assert event_store.version(STREAM) == 2

    def test_an_exception_before_begin_is_sent_leaves_no_open_pipeline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def ring(*args: object) -> None:
            raise TimeLimit

        append()
        with monkeypatch.context() as patched, pytest.raises(TimeLimit), transaction.atomic():
            patched.setattr(prepared, "_send", ring)
            append()
        append()
        assert event_store.version(STREAM) == 2


class TestInterruption:
    @pytest.mark.usefixtures("_interrupts_are_enabled")
    @pytest.mark.parametrize("inner", [False, True], ids=["alone", "the first of a transaction"])
    def test_an_interrupt_ends_the_wait_for_a_lock_and_keeps_the_connection(self, inner: bool, way: str) -> None:
        def unit() -> AbstractContextManager[None]:
            return transaction.atomic() if inner else nullcontext()

        append()
        pid = connection.connection.info.backend_pid
        with holding_the_stream(), threads(1) as submit:
            submit(signal_once_a_session_waits, threading.get_ident(), signal.SIGINT)
            with pytest.raises(KeyboardInterrupt), unit():
                append()
        with unit():
            append()
        assert event_store.version(STREAM) == 2
        assert connection.connection.info.backend_pid == pid

    @pytest.mark.usefixtures("_time_limit")
    def test_a_statement_after_an_interrupted_one_gets_its_own_rows(self, way: str) -> None:
        append()
        with pytest.raises(StorageError, match="the connection is closed"), transaction.atomic():
            with holding_the_stream(), threads(1) as submit:
                submit(signal_once_a_session_waits, threading.get_ident(), signal.SIGUSR1)
                with pytest.raises(TimeLimit):
                    append()
            event_store.append(StreamId("first-statement", "other"), [Begun()], expected=ANY)
        with transaction.atomic():
            append()
        assert event_store.version(STREAM) == 2
        assert event_store.version(StreamId("first-statement", "other")) == 0

    @pytest.mark.usefixtures("_time_limit")
    @pytest.mark.parametrize("inner", [False, True], ids=["alone", "within a transaction"])
    def test_an_interrupted_append_blocks_no_other_writer_and_is_not_stored_later(self, inner: bool, way: str) -> None:
        other = StreamId("first-statement", "other")
        append()
        with holding_the_stream(), threads(1) as submit:
            with pytest.raises(TimeLimit), transaction.atomic() if inner else nullcontext():
                event_store.append(other, [Begun()], expected=ANY)
                submit(signal_once_a_session_waits, threading.get_ident(), signal.SIGUSR1)
                append()
            close_old_connections()
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '10s'")
            event_store.append(other, [Begun()], expected=ANY)
        append()
        assert event_store.version(STREAM) == 2
        assert event_store.version(other) == (1 if inner else 2)

    @pytest.mark.parametrize("inner", [False, True], ids=["alone", "the first of a transaction"])
    @pytest.mark.parametrize("waits", [False, True], ids=["before it", "while it waits"])
    def test_a_session_that_the_server_terminates_is_an_error_and_the_next_connection_works(
        self, waits: bool, inner: bool, way: str
    ) -> None:
        def unit() -> AbstractContextManager[None]:
            return transaction.atomic() if inner else nullcontext()

        append()
        pid = connection.connection.info.backend_pid
        with holding_the_stream() if waits else nullcontext(), threads(1) as submit:
            ending = submit(end_session, pid, waits)
            if not waits:
                ending.result(30)
            with (
                pytest.raises(StorageError, match="terminating connection due to administrator command") as caught,
                unit(),
            ):
                append()
        assert caught.value.retryable
        connection.close_if_unusable_or_obsolete()
        with unit():
            append()
        assert event_store.version(STREAM) == 2
