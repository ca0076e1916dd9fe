"""PostgreSQL plans the frequent statements once per connection, unless a setting turns it off."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from typing import Any

import psycopg
import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from es_django import ANY, Repository, StorageError, StreamId, event_store
from tests.domain import Annotated, Ledger
from tests.threads import threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requires_postgresql]

ledgers = Repository(Ledger)


def prepared() -> set[str]:
    """Return which kinds of our statements the connection has prepared."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        found = {statement for (statement,) in cursor.fetchall()}
    ours = {statement for statement in found if "es_django" in statement}
    return {"append" if "es_django_stream AS stream" in statement else "load" for statement in ours}


@pytest.fixture(autouse=True)
def _a_connection_of_its_own() -> Iterator[None]:
    connection.close()
    yield
    connection.close()


def save_and_load() -> None:
    ledgers.save(Ledger.open("l-1"))
    assert ledgers.get("l-1").version == 1


def ask(statement: str) -> list[tuple[str, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


class TestPreparation:
    def test_appends_and_loads_are_prepared(self) -> None:
        save_and_load()
        assert prepared() == {"append", "load"}

    def test_a_page_of_the_log_is_planned_for_its_categories(self) -> None:
        save_and_load()
        event_store.read_all(categories=["ledger"])
        assert prepared() == {"append", "load"}
        assert ask("SELECT name FROM pg_prepared_statements WHERE statement LIKE '%JOIN es_django_stream%'") == []

    def test_the_setting_turns_preparation_off(self, settings: Settings) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "PREPARED_STATEMENTS": False}
        save_and_load()
        assert prepared() == set()

    def test_preparation_by_psycopg_turns_ours_off(self) -> None:
        connection.ensure_connection()
        connection.connection.prepare_threshold = 0
        for _ in range(2):
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                save_and_load()
                assert prepared() == set()
                raise ZeroDivisionError
        save_and_load()

    def test_prepared_statements_survive_a_rollback(self) -> None:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            save_and_load()
            raise ZeroDivisionError
        assert prepared() == {"append", "load"}
        save_and_load()

    def test_the_number_of_prepared_statements_is_limited(self) -> None:
        numbers = count()

        def comment(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            return execute(f"{sql} /* {next(numbers)} */", params, many, context)

        save_and_load()
        with connection.execute_wrapper(comment):
            for _ in range(150):
                ledgers.get("l-1")
        ((held,),) = ask("SELECT count(*)::text FROM pg_prepared_statements")
        assert held == "100"

    @pytest.mark.parametrize("inner", [False, True], ids=["alone", "in a transaction"])
    @pytest.mark.parametrize("words", [b"DISCARD ALL", b"DEALLOCATE ALL"])
    def test_deallocated_statements_are_prepared_again(self, words: bytes, inner: bool) -> None:
        def unit() -> AbstractContextManager[None]:
            return transaction.atomic() if inner else nullcontext()

        save_and_load()
        # a pooler also deallocates statements without the knowledge of psycopg
        connection.connection.pgconn.exec_(words)
        if inner:
            with pytest.raises(StorageError, match="DISCARD ALL") as caught, unit():
                ledgers.get("l-1")
            assert caught.value.retryable
        else:
            assert ledgers.get("l-1").version == 1
        for version in range(2, 5):
            with unit():
                ledgers.execute("l-1", lambda ledger: ledger.deposit(1))
            assert ledgers.get("l-1").version == version
        assert prepared() == {"append", "load"}

    def test_a_changed_column_type_is_planned_again_at_the_next_try(self) -> None:
        save_and_load()
        ((before,),) = ask(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = 'es_django_event'::regclass AND attname = 'type'"
        )
        for kind in ("text", before, "text", before):
            ask(f"ALTER TABLE es_django_event ALTER COLUMN type TYPE {kind}")
            try:
                with (
                    pytest.raises(StorageError, match="cached plan must not change result type") as caught,
                    transaction.atomic(),
                ):
                    ledgers.get("l-1")
                assert caught.value.retryable
                for _ in range(3):
                    assert ledgers.get("l-1").version == 1
                assert prepared() == {"append", "load"}
            except BaseException:
                ask(f"ALTER TABLE es_django_event ALTER COLUMN type TYPE {before}")
                raise


class TestQueryLog:
    def test_the_log_shows_each_statement_with_its_values(self) -> None:
        with CaptureQueriesContext(connection) as captured:
            save_and_load()
        append, load = (query["sql"] for query in captured.captured_queries)
        assert "INSERT INTO es_django_event" in append
        assert "FROM es_django_event AS event" in load
        for shown in append, load:
            # The log contains the values, so an operator can execute the statement.
            assert "'l-1'" in shown
            assert ask(f"EXPLAIN {shown}")

    def test_the_log_does_not_hide_a_lost_connection(self) -> None:
        save_and_load()
        with psycopg.connect(**connection.connection.info.get_parameters(), autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 30000)", [connection.connection.info.backend_pid])
        with CaptureQueriesContext(connection) as captured, pytest.raises(StorageError, match="administrator command"):
            ledgers.get("l-1")
        (shown,) = captured.captured_queries
        assert "FROM es_django_event AS event" in shown["sql"]


class TestConnection:
    def test_an_append_that_fails_at_its_commit_raises_storage_error(self, way: str) -> None:
        ask("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE SQLSTATE '40001'; END$$")
        ask(
            "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON es_django_event DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
        try:
            with pytest.raises(StorageError) as caught:
                event_store.append(StreamId("audit", "refused"), [Annotated(note="")], expected=ANY)
        finally:
            ask("DROP FUNCTION refuse CASCADE")
        assert caught.value.retryable
        assert event_store.version(StreamId("audit", "refused")) == 0

    # With DEBUG, Django cannot log a statement that is not UTF-8.
    @pytest.mark.parametrize("way", ["libpq", "plain cursor"], indirect=True)
    def test_a_connection_with_another_client_encoding_stores_text_correctly(self, way: str) -> None:
        ask("SET client_encoding TO latin1")
        event_store.append(StreamId("audit", "caf\u00e9"), [Annotated(note="\u00e9")], expected=ANY)
        connection.close()
        assert [each.event for each in event_store.read_stream(StreamId("audit", "caf\u00e9"))] == [
            Annotated(note="\u00e9")
        ]

    @pytest.mark.parametrize("inner", [False, True], ids=["alone", "in a transaction"])
    def test_psycopgs_pipeline_is_refused(self, inner: bool, way: str) -> None:
        save_and_load()
        with transaction.atomic() if inner else nullcontext():
            with connection.connection.pipeline(), pytest.raises(StorageError, match=r"pipeline\(\)"):
                ledgers.get("l-1")
            assert ledgers.get("l-1").version == 1

    def test_a_connection_of_another_thread_is_refused(self, way: str) -> None:
        save_and_load()
        of_this_thread = connections["default"]

        def load() -> None:
            connections["default"] = of_this_thread
            try:
                ledgers.get("l-1")
            finally:
                del connections["default"]

        with threads(1) as submit, pytest.raises(StorageError, match="can only be used in that same thread"):
            submit(load).result(30)

    def test_an_append_inside_an_append_keeps_the_outer_result(self) -> None:
        """Append within an execute_wrapper, like a wrapper that logs statements to the event store."""
        executed: list[str] = []
        counts: list[int] = []

        def record(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            result = execute(sql, params, many, context)
            executed.append(sql)
            if "INSERT INTO es_django_event " in sql:
                counts.append(context["cursor"].rowcount)
                if counts == [1]:
                    event_store.append(StreamId("audit", "inner"), [Annotated(note="inner")] * 2, expected=ANY)
            return result

        save_and_load()
        with connection.execute_wrapper(record):
            outer = event_store.append(StreamId("audit", "outer"), [Annotated(note="outer")], expected=ANY)
        assert counts == [1, 2]
        # Both appends got their events from the first statement, without a second look-up.
        assert [sql for sql in executed if '"event_id" IN' in sql] == []
        assert outer == list(event_store.read_stream(StreamId("audit", "outer")))
