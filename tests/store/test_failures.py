"""Whatever the store is asked for, a failing database is told as a `StorageError` that names what was asked."""

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from es_django import ANY, Message, StorageError, StreamId, StreamWrite, event_store
from es_django.errors import LockTimeout
from es_django.events import PendingEvent
from es_django.models import Stream
from es_django.store.failures import storage_errors
from tests.domain import Annotated

pytestmark = pytest.mark.django_db(transaction=True)

STREAM = StreamId("ledger", "l-1")
PENDING = PendingEvent(Annotated(note=1))
TWO_WRITES = [StreamWrite(STREAM, [PENDING], 0), StreamWrite(StreamId("ledger", "l-2"), [Annotated(note=2)], 0)]

OPERATIONS: list[tuple[str, Callable[[], Any]]] = [
    ("append", lambda: event_store.append(STREAM, [PENDING], expected=0)),
    ("append", lambda: event_store.append(STREAM, [PENDING], expected=ANY)),
    ("append", lambda: event_store.append_all(TWO_WRITES)),
    ("store an outbox message", lambda: event_store.send(Message(type="noted", data=None, destination="tests"))),
    ("archive a stream", lambda: event_store.archive(STREAM)),
    ("read a stream", lambda: list(event_store.read_stream(STREAM))),
    ("read a stream's version", lambda: event_store.version(STREAM)),
    ("read the log", lambda: event_store.read_all()),
    ("load a stream", lambda: event_store.load(STREAM)),
    ("load a stream", lambda: event_store.load(STREAM, schema="ledger:1")),
    ("load streams", lambda: event_store.load_many("ledger", ["l-1"])),
    ("look an event up", lambda: event_store.contains(PENDING.event_id)),
    ("lock a stream", lambda: event_store.lock(STREAM, None).__enter__()),
]


def fail(*args: Any) -> None:
    raise OperationalError("told by the database")


def fail_in_database(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    return execute("SELECT no_column FROM es_django_stream", {}, False, context)


@pytest.mark.parametrize(("operation", "ask"), OPERATIONS)
def test_a_failing_database_is_told_by_every_operation(operation: str, ask: Callable[[], Any]) -> None:
    with (
        connection.execute_wrapper(fail),
        pytest.raises(StorageError, match="told by the database") as caught,
    ):
        ask()
    assert caught.value.operation == operation
    assert isinstance(caught.value.__cause__, OperationalError)


@pytest.mark.parametrize(("operation", "ask"), OPERATIONS)
def test_what_fails_in_a_transaction_and_is_caught_there_does_not_let_it_seem_committed(
    operation: str, ask: Callable[[], Any]
) -> None:
    committed: list[str] = []
    with transaction.atomic():
        event_store.append(StreamId("ledger", "before"), [Annotated(note=1)], expected=0)
        transaction.on_commit(lambda: committed.append("told"))
        # A transaction fails with its first failing statement, which the database itself must have been given.
        with connection.execute_wrapper(fail_in_database), pytest.raises(StorageError):
            ask()
    assert event_store.version(StreamId("ledger", "before")) == len(committed)


def test_a_failure_that_a_savepoint_makes_good_leaves_the_transaction_as_it_was() -> None:
    def fail_within(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "SAVEPOINT" in sql:
            return execute(sql, params, many, context)
        return fail_in_database(execute, sql, params, many, context)

    with transaction.atomic():
        event_store.append(StreamId("ledger", "before"), [Annotated(note=1)], expected=0)
        with connection.execute_wrapper(fail_within), pytest.raises(StorageError):
            event_store.append_all(TWO_WRITES)
        event_store.append(StreamId("ledger", "after"), [Annotated(note=1)], expected=0)
    assert event_store.version(StreamId("ledger", "before")) == event_store.version(StreamId("ledger", "after")) == 1


@pytest.mark.requires_sqlite
def test_a_database_that_another_process_has_locked_is_told_by_the_lock() -> None:
    ask = "SELECT file FROM pragma_database_list WHERE name = 'main'"
    with connection.cursor() as cursor:
        (file,) = cursor.execute(ask).fetchone()
        (before,) = cursor.execute("PRAGMA busy_timeout").fetchone()
        cursor.execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(file, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LockTimeout, match="'l-1'"), event_store.lock(STREAM, 0.1):
            raise AssertionError("it was granted")
        with pytest.raises(StorageError, match="failed to lock a stream") as caught, event_store.lock(STREAM, None):
            raise AssertionError("it was granted")
        assert caught.value.retryable
        other.execute("ROLLBACK")
        with event_store.lock(STREAM, 0.1):
            assert event_store.in_transaction
    finally:
        other.close()
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {before}")


@pytest.mark.requires_postgresql
def test_the_reason_tells_no_values_of_the_row() -> None:
    with pytest.raises(StorageError, match="duplicate key") as caught, storage_errors("open a stream"):
        for _ in range(2):
            Stream.objects.create(category="ledger", key="secret", version=0)
    assert "secret" not in str(caught.value)


def test_a_transaction_whose_message_failed_commits_nothing() -> None:
    with transaction.atomic():
        event_store.append(STREAM, [PENDING], expected=0)
        with connection.execute_wrapper(fail), pytest.raises(StorageError):
            event_store.send(Message(type="noted", data=None, destination="tests"))
    assert event_store.version(STREAM) == 0
