"""A statement returns the same rows and raises the same errors on every way to PostgreSQL."""

import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import (
    DataError,
    Error,
    IntegrityError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from es_django import ANY, Event, StreamId, event_store
from es_django.store.backends import store_for
from es_django.store.postgresql import execution, plain_cursor, prepared
from es_django.store.postgresql.execution import fetch

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requires_postgresql]

STREAM = StreamId("execution", "1")


class Noted(Event):
    """An event that no inline projection of another module applies."""

    note: str

    class Meta:
        name = "tests.execution.noted"


PARTS = [(owner, name) for owner, names in prepared.PARTS.items() for name in names]
IMPORTS = [
    ("psycopg", "capabilities"),
    ("psycopg.errors", "error_from_result"),
    ("psycopg.generators", "execute"),
    ("psycopg.generators", "fetch_many"),
]


@pytest.fixture
def _a_connection_of_its_own() -> Iterator[None]:
    connection.close()
    yield
    connection.close()


@pytest.fixture
def _first_statement_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_fetch", execution._choose_and_fetch)


class Without:
    """Wrap an object, hide one of its attributes, and replace others."""

    def __init__(self, whole: object, missing: str, **replaced: object) -> None:
        self.__dict__.update(replaced, _whole=whole, _missing=missing)

    def __getattr__(self, name: str) -> Any:
        if name == self._missing:
            raise AttributeError(name)
        return getattr(self._whole, name)


def append_and_read() -> None:
    appended = event_store.append(STREAM, [Noted(note="1"), Noted(note="2")], expected=ANY)
    appended += event_store.append(STREAM, [Noted(note="3")], expected=2)
    assert list(event_store.read_stream(STREAM)) == event_store.read_all(types=[Noted]).events == appended
    tail = [event for _, events in event_store.load(STREAM).tail for event in events]
    assert tail == [each.event for each in appended]


def is_prepared() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_prepared_statements WHERE name LIKE 'es_django%%'")
        return bool(cursor.rowcount)


class TestMissingParts:
    @pytest.mark.django_db(transaction=False)
    @pytest.mark.parametrize(("owner", "name"), PARTS)
    def test_each_missing_part_of_psycopg_is_named(
        self, owner: str, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole: Any = connection
        if owner == "DatabaseWrapper":
            whole = Without(connection, name)
        elif owner == "Connection":
            whole = Without(connection, "", connection=Without(connection.connection, name))
        elif owner == "PGconn":
            pgconn = Without(connection.connection.pgconn, name)
            whole = Without(connection, "", connection=Without(connection.connection, "", pgconn=pgconn))
        else:
            monkeypatch.setattr(prepared, owner, Without(getattr(prepared, owner), name))
        assert prepared.missing_parts(whole) == [f"{owner}.{name}"]


@pytest.mark.usefixtures("_a_connection_of_its_own", "_first_statement_of_the_process")
class TestChoice:
    def test_the_installed_releases_have_every_part(self, caplog: pytest.LogCaptureFixture) -> None:
        append_and_read()
        assert is_prepared()
        assert execution._fetch is prepared.fetch
        assert caplog.records == []

    def test_djangos_cursor_takes_over_for_a_missing_part(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(prepared, "missing_parts", lambda connection: ["PGconn.send_prepare"])
        append_and_read()
        assert not is_prepared()
        ((logger, level, text),) = caplog.record_tuples
        assert (logger, level) == ("es_django.store.postgresql.execution", logging.WARNING)
        assert "PGconn.send_prepare" in text

    @pytest.mark.parametrize(("module", "name"), IMPORTS)
    def test_djangos_cursor_takes_over_for_a_missing_import(
        self, module: str, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.delattr(importlib.import_module(module), name)
        monkeypatch.delitem(sys.modules, prepared.__name__)
        monkeypatch.delattr("es_django.store.postgresql.prepared")
        append_and_read()
        assert not is_prepared()
        (record,) = caplog.records
        assert name in record.getMessage()


@pytest.mark.usefixtures("_a_connection_of_its_own")
class TestRows:
    STATEMENT = """
        SELECT %(text)s::text, %(number)s::bigint, %(id)s::uuid, %(at)s::timestamptz, CAST(%(json)s::jsonb AS text),
               %(nothing)s::text, %(text)s::text || '!', ARRAY['a', 'b']::text[] = %(texts)s::text[], 1.5::float8
    """
    PARAMETERS = {
        "text": "a 'quoted' \\ text, 100 %",
        "number": 2**40,
        "id": "0190a1b2c3d4e5f60718293a4b5c6d7e",
        "at": "2026-07-01 12:00:00.123456+02",
        "json": '{"b": 1, "a": [null]}',
        "nothing": None,
        "texts": ["a", "b"],
    }

    def test_values_have_the_same_types_on_every_way(self, way: str) -> None:
        (row,) = fetch(connection, self.STATEMENT, self.PARAMETERS)
        assert row == (
            "a 'quoted' \\ text, 100 %",
            2**40,
            UUID(self.PARAMETERS["id"]),  # type: ignore[arg-type]
            datetime(2026, 7, 1, 10, 0, 0, 123456, tzinfo=UTC),
            '{"a": [null], "b": 1}',
            None,
            "a 'quoted' \\ text, 100 %!",
            True,
            1.5,
        )

    @pytest.mark.parametrize("use_tz", [True, False])
    def test_times_are_in_utc_on_a_connection_with_another_time_zone(
        self, use_tz: bool, way: str, settings: Settings
    ) -> None:
        settings.TIME_ZONE, settings.USE_TZ = "Asia/Tokyo", use_tz
        other = connection.copy("other")
        other.settings_dict["TIME_ZONE"] = "Asia/Tokyo" if use_tz else None
        statement = "SELECT %(at)s::timestamptz, current_setting('timezone')"
        ((at, zone),) = fetch(other, statement, {"at": "2026-07-01 12:00:00+02"})
        other.close()
        assert (at, at.utcoffset()) == (datetime(2026, 7, 1, 10, tzinfo=UTC), timedelta())
        assert zone == "Asia/Tokyo"

    def test_statements_return_several_rows_or_none(self, way: str) -> None:
        assert fetch(connection, "SELECT generate_series(1, %(last)s::int)", {"last": 3}) == [(1,), (2,), (3,)]
        assert fetch(connection, "SELECT generate_series(1, %(last)s::int)", {"last": 0}) == []

    def test_statements_work_inside_and_outside_a_transaction(self, way: str) -> None:
        append_and_read()
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            event_store.append(STREAM, [Noted(note="4")], expected=3)
            raise ZeroDivisionError
        assert event_store.version(STREAM) == 3

    def test_statements_work_with_parameters_bound_on_the_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(execution, "_fetch", plain_cursor.fetch)
        bound = connection.copy("bound")
        bound.settings_dict["OPTIONS"] = {**bound.settings_dict["OPTIONS"], "server_side_binding": True}
        connections["bound"] = bound
        try:
            store = store_for("bound")
            appended = store.append(STREAM, [Noted(note="1")], expected=ANY)
            assert store.read_all(types=[Noted]).events == list(store.read_stream(STREAM)) == appended
        finally:
            bound.close()
            del connections["bound"]

    def test_the_query_log_shows_each_statement_with_its_values(self) -> None:
        with CaptureQueriesContext(connection) as captured:
            fetch(connection, "SELECT %(text)s::text", {"text": "shown"})
        assert [query["sql"] for query in captured.captured_queries] == ["SELECT 'shown'::text"]


def in_pipeline() -> AbstractContextManager[Any]:
    connection.ensure_connection()
    return connection.connection.pipeline()  # type: ignore[no-any-return]


def lose_connection() -> AbstractContextManager[None]:
    connection.ensure_connection()
    with psycopg.connect(**connection.connection.info.get_parameters(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 30000)", [connection.connection.info.backend_pid])
    return nullcontext()


def close_connection() -> AbstractContextManager[None]:
    connection.ensure_connection()
    connection.connection.close()
    return nullcontext()


ERRORS: dict[str, tuple[str, object, Callable[[], AbstractContextManager[Any]], type[BaseException]]] = {
    "a wrong value": ("SELECT %(value)s::int", "x", nullcontext, DataError),
    "a division by zero": ("SELECT 1 / %(value)s::int", 0, nullcontext, DataError),
    "a NUL": ("SELECT %(value)s::text", "\x00", nullcontext, DataError),
    "a lone surrogate": ("SELECT %(value)s::text", "\ud800", nullcontext, UnicodeEncodeError),
    "a value of no type": ("SELECT %(value)s::text", object(), nullcontext, ProgrammingError),
    "a syntax error": ("SELEC %(value)s", 1, nullcontext, ProgrammingError),
    "a missing table": ("SELECT %(value)s::int FROM nowhere", 1, nullcontext, ProgrammingError),
    "a constraint": (
        "INSERT INTO es_django_stream (category, key, version) VALUES (%(value)s, '', 0) RETURNING id",
        "x",
        nullcontext,
        IntegrityError,
    ),
    "a pipeline": ("SELECT %(value)s::int", 1, in_pipeline, NotSupportedError),
    "a lost connection": ("SELECT %(value)s::int", 1, lose_connection, OperationalError),
    "a closed connection": ("SELECT %(value)s::int", 1, close_connection, OperationalError),
}


class TestErrors:
    @pytest.mark.parametrize("case", ERRORS)
    def test_errors_have_the_same_classes_on_every_way(self, case: str, way: str) -> None:
        statement, value, situation, expected = ERRORS[case]
        for inner in (False, True):
            connection.close()
            fetch(connection, "SELECT 1", {})
            with transaction.atomic() if inner else nullcontext():
                with situation(), pytest.raises((Error, UnicodeEncodeError)) as caught:
                    fetch(connection, statement, {"value": value})
                if inner:
                    transaction.set_rollback(True)
            assert type(caught.value) is expected
        connection.close()
