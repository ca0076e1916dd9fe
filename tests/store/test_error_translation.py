"""Every operation turns a database error into a `StorageError` that names the operation."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.db import Error, IntegrityError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from es_django import ANY, Message, StorageError, StreamId, StreamWrite, event_store
from es_django.core.events import PendingEvent
from es_django.errors import LockTimeout
from es_django.inbox import attempts
from es_django.inbox.attempts import Attempt
from es_django.inbox.receipts import handle_once, insert_dead_receipt
from es_django.inbox.replay import replay
from es_django.inbox.retries import hand_over
from es_django.leases import lease_lock
from es_django.models import Snapshot, Stream
from es_django.monitoring.health import status
from es_django.outbox.backends import outbox_store
from es_django.outbox.states import Transition
from es_django.projections import wait_for
from es_django.store.commit_tracking import AFTER_COMMIT
from es_django.store.error_translation import storage_errors
from tests.domain import Annotated

pytestmark = pytest.mark.django_db(transaction=True)

STREAM = StreamId("ledger", "l-1")
PENDING = PendingEvent(Annotated(note=1))
MESSAGE = Message(type="noted", data=None, destination="tests")
TWO_WRITES = [StreamWrite(STREAM, [PENDING], 0), StreamWrite(StreamId("ledger", "l-2"), [Annotated(note=2)], 0)]

SPOIL = {
    "postgresql": "SELECT 1 / 0",
    # On SQLite an error leaves the transaction open, unless the statement says ROLLBACK.
    "sqlite": "INSERT OR ROLLBACK INTO es_django_inboxreceipt DEFAULT VALUES",
}

OPERATIONS: list[tuple[str, Callable[[], Any]]] = [
    ("append", lambda: event_store.append(STREAM, [PENDING], expected=0)),
    ("append", lambda: event_store.append(STREAM, [PENDING], expected=ANY)),
    ("append", lambda: event_store.append_all(TWO_WRITES)),
    ("store an outbox message", lambda: event_store.send(MESSAGE)),
    ("archive a stream", lambda: event_store.archive(STREAM)),
    ("read a stream", lambda: list(event_store.read_stream(STREAM))),
    ("read a stream's version", lambda: event_store.version(STREAM)),
    ("read the log", lambda: event_store.read_all()),
    ("read the log", lambda: event_store.safe_end()),
    ("load a stream", lambda: event_store.load(STREAM)),
    ("load a stream", lambda: event_store.load(STREAM, schema="ledger:1")),
    ("load streams", lambda: event_store.load_many("ledger", ["l-1"])),
    ("look an event up", lambda: event_store.contains(PENDING.event_id)),
    ("lock a stream", lambda: event_store.lock(STREAM, None).__enter__()),
    ("take a lease", lambda: lease_lock("tests").__enter__()),
    ("change the status of messages", lambda: outbox_store().change_status([PENDING.event_id], Transition.DISCARD)),
    ("handle a message", lambda: handle_once("tests", MESSAGE, lambda message: None)),
    ("replay a message", lambda: replay("tests", "m-1")),
    ("begin an attempt", lambda: attempts.begin("tests", MESSAGE, None, None)),
    ("store a failed attempt", lambda: attempts.settle(Attempt("tests", "m-1", 1), "tests", None)),
    ("find messages to retry", lambda: hand_over(lambda retries: [])),
    ("store a dead message", lambda: insert_dead_receipt("tests", "m-1", None, "tests", attempt=1)),
    ("read the end of the log", lambda: wait_for("statements")),
    ("read the status", lambda: status()),
]


def fail(*args: Any) -> None:
    raise OperationalError("failed in the database")


def fail_in_database(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    return execute("SELECT no_column FROM es_django_stream", {}, False, context)


class TestEveryOperation:
    @pytest.mark.parametrize(("operation", "ask"), OPERATIONS)
    def test_a_database_error_becomes_a_storage_error_that_names_the_operation(
        self, operation: str, ask: Callable[[], Any]
    ) -> None:
        with (
            connection.execute_wrapper(fail),
            pytest.raises(StorageError, match="failed in the database") as caught,
        ):
            ask()
        assert caught.value.operation == operation
        assert isinstance(caught.value.__cause__, OperationalError)

    @pytest.mark.parametrize(("operation", "ask"), OPERATIONS)
    def test_after_a_caught_error_on_commit_callbacks_run_only_if_the_events_are_stored(
        self, operation: str, ask: Callable[[], Any]
    ) -> None:
        committed: list[str] = []
        with transaction.atomic():
            event_store.append(StreamId("ledger", "before"), [Annotated(note=1)], expected=0)
            transaction.on_commit(lambda: committed.append("committed"))
            # Only a statement that fails in the database breaks the database's transaction.
            with connection.execute_wrapper(fail_in_database), pytest.raises(StorageError):
                ask()
        assert event_store.version(StreamId("ledger", "before")) == len(committed)

    @pytest.mark.parametrize(("operation", "ask"), OPERATIONS)
    def test_an_operation_in_a_broken_transaction_is_an_error_and_nothing_is_written(
        self, operation: str, ask: Callable[[], Any]
    ) -> None:
        committed: list[str] = []
        with transaction.atomic():
            event_store.append(StreamId("ledger", "before"), [Annotated(note=1)], expected=0)
            transaction.on_commit(lambda: committed.append("committed"))
            with suppress(Error), connection.cursor() as cursor:
                cursor.execute(SPOIL[connection.vendor])
            with pytest.raises(StorageError, match="was caught inside the transaction") as caught:
                ask()
        assert caught.value.operation == operation
        assert (event_store.read_all().events, committed) == ([], [])


class TestTransaction:
    def test_a_transaction_continues_after_a_savepoint_rolled_an_error_back(self) -> None:
        def fail_within(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            if "SAVEPOINT" in sql:
                return execute(sql, params, many, context)
            return fail_in_database(execute, sql, params, many, context)

        with transaction.atomic():
            event_store.append(StreamId("ledger", "before"), [Annotated(note=1)], expected=0)
            with connection.execute_wrapper(fail_within), pytest.raises(StorageError):
                event_store.append_all(TWO_WRITES)
            event_store.append(StreamId("ledger", "after"), [Annotated(note=1)], expected=0)
        assert (
            event_store.version(StreamId("ledger", "before")) == event_store.version(StreamId("ledger", "after")) == 1
        )

    @pytest.mark.requires_postgresql
    def test_after_an_interrupted_operation_no_on_commit_callback_runs(self) -> None:
        committed: list[str] = []

        def interrupt(*arguments: Any) -> None:
            with suppress(Error):
                fail_in_database(*arguments)
            raise KeyboardInterrupt

        with transaction.atomic():
            event_store.append(StreamId("ledger", "before"), [Annotated(note=1)], expected=0)
            transaction.on_commit(lambda: committed.append("committed"))
            with connection.execute_wrapper(interrupt), pytest.raises(KeyboardInterrupt):
                event_store.append(STREAM, [PENDING], expected=0)
        assert committed == []

    def test_an_append_after_a_read_with_autocommit_off_is_stored(self) -> None:
        transaction.set_autocommit(False)
        try:
            with transaction.atomic(savepoint=False):
                event_store.append(STREAM, [PENDING], expected=event_store.version(STREAM))
            transaction.commit()
        finally:
            transaction.set_autocommit(True)
        assert event_store.version(STREAM) == 1

    def test_a_broken_transaction_that_is_marked_for_rollback_ends_without_an_error(self) -> None:
        with event_store.lock(STREAM, 5):
            event_store.append(STREAM, [PENDING], expected=0)
            with suppress(Error), connection.cursor() as cursor:
                cursor.execute(SPOIL[connection.vendor])
            transaction.set_rollback(True)
        assert event_store.version(STREAM) == 0

    def test_a_transaction_commits_nothing_after_a_message_could_not_be_stored(self) -> None:
        with transaction.atomic():
            event_store.append(STREAM, [PENDING], expected=0)
            with connection.execute_wrapper(fail), pytest.raises(StorageError):
                event_store.send(MESSAGE)
        assert event_store.version(STREAM) == 0


class TestConnection:
    def test_a_connection_that_was_closed_in_its_transaction_is_an_error(self) -> None:
        with transaction.atomic():
            event_store.append(STREAM, [PENDING], expected=0)
            connection.close()
            for ask in (lambda: event_store.version(STREAM), lambda: event_store.append(STREAM, [PENDING], expected=1)):
                with pytest.raises(StorageError):
                    ask()
        assert event_store.version(STREAM) == 0

    def test_an_error_before_the_statement_is_a_storage_error_while_queries_are_logged(self) -> None:
        with CaptureQueriesContext(connection), transaction.atomic():
            transaction.set_rollback(True)
            for ask in (lambda: event_store.load(STREAM), lambda: event_store.append(STREAM, [PENDING], expected=0)):
                with pytest.raises(StorageError, match="until the end of the 'atomic' block"):
                    ask()


class TestLock:
    def test_a_failed_commit_at_the_end_of_a_lock_is_a_storage_error(self) -> None:
        with pytest.raises(StorageError, match="commit the work under a lock"), event_store.lock(STREAM, 5):
            Snapshot.objects.create(stream_id=2**40, version=1, schema="tests", state="{}")
        with pytest.raises(IntegrityError), event_store.lock(STREAM, 5), connection.cursor() as cursor:
            cursor.execute("INSERT INTO es_django_stream DEFAULT VALUES")

    def test_an_error_of_an_on_commit_callback_passes_unchanged_with_a_note(self) -> None:
        with pytest.raises(OperationalError, match="failed in the database") as caught, event_store.lock(STREAM, 5):
            event_store.append(STREAM, [PENDING], expected=0)
            transaction.on_commit(fail)
        assert event_store.version(STREAM) == 1
        assert caught.value.__notes__ == [AFTER_COMMIT]

    @pytest.mark.requires_sqlite
    def test_a_database_locked_by_another_process_is_a_timeout_or_a_storage_error(self) -> None:
        ask = "SELECT file FROM pragma_database_list WHERE name = 'main'"
        with connection.cursor() as cursor:
            (file,) = cursor.execute(ask).fetchone()
            (before,) = cursor.execute("PRAGMA busy_timeout").fetchone()
            cursor.execute("PRAGMA busy_timeout = 0")
        other = sqlite3.connect(file, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LockTimeout, match="'l-1'"), event_store.lock(STREAM, 0.1):
                raise AssertionError("the lock was granted")
            with pytest.raises(StorageError, match="failed to lock a stream") as caught, event_store.lock(STREAM, None):
                raise AssertionError("the lock was granted")
            assert caught.value.retryable
            other.execute("ROLLBACK")
            with event_store.lock(STREAM, 0.1):
                assert event_store.in_transaction
        finally:
            other.close()
            with connection.cursor() as cursor:
                cursor.execute(f"PRAGMA busy_timeout = {before}")


class TestReason:
    @pytest.mark.requires_postgresql
    def test_the_reason_does_not_show_values_of_the_row(self) -> None:
        with pytest.raises(StorageError, match="duplicate key") as caught, storage_errors("open a stream", connection):
            for _ in range(2):
                Stream.objects.create(category="ledger", key="secret", version=0)
        assert "secret" not in str(caught.value)


class TestErrorsOfTheDriver:
    """With DEBUG, Django formats a statement for its log, and lets errors of the driver out that it has not wrapped."""

    def test_fault_b7_an_error_of_the_driver_becomes_a_storage_error(self) -> None:
        driver: Any = connection
        with pytest.raises(StorageError, match="is lost"), storage_errors("read a stream", connection):
            raise driver.Database.OperationalError("the connection is lost")

    def test_fault_b7_the_error_of_the_statement_counts_if_the_drivers_error_hides_it(self) -> None:
        driver: Any = connection
        with pytest.raises(StorageError, match="the statement failed"), storage_errors("read a stream", connection):
            try:
                raise OperationalError("the statement failed")
            except OperationalError:
                raise driver.Database.ProgrammingError("the text cannot be formatted")  # noqa: B904  # as Django does
