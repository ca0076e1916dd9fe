"""Behind a pooler, other clients use the same server connections, and each transaction may get another one."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from threading import Barrier
from typing import Any

import psycopg
import pytest
from django.conf import settings as django_settings
from django.core.checks import run_checks
from django.db import connection, transaction
from django.test import override_settings

from es_django import ANY, NO_STREAM, ConcurrencyError, Event, Repository, StorageError, StreamId, event_store, outbox
from es_django.errors import is_retryable
from es_django.store.error_translation import storage_errors
from tests.domain import Ledger
from tests.pgbouncer import connected_through, pgbouncer
from tests.processes import run_processes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requires_postgresql, pytest.mark.slow]

SHARED = StreamId("poolers", "shared")
DESTINATIONS = {"tests": {"PUBLISHER": "tests.publishers.Recorder"}}
ledgers = Repository(Ledger)


class Pooled(Event):
    class Meta:
        name = "poolers.pooled"


@pytest.fixture(scope="module")
def transaction_mode(django_db_setup: None, django_db_blocker: Any) -> Iterator[int]:
    """Return the port of a pooler with two server connections."""
    with django_db_blocker.unblock(), pgbouncer("transaction", size=2) as port:
        yield port


@pytest.fixture(scope="module")
def statement_mode(django_db_setup: None, django_db_blocker: Any) -> Iterator[int]:
    with django_db_blocker.unblock(), pgbouncer("statement") as port:
        yield port


def prepares(always: bool) -> AbstractContextManager[Any]:
    changed = {"DESTINATIONS": DESTINATIONS, **({"PREPARED_STATEMENTS": True} if always else {})}
    # In a new process, DEBUG is on, and then nothing is prepared.
    return override_settings(DEBUG=False, ES_DJANGO={**django_settings.ES_DJANGO, **changed})


def unit(in_transaction: bool) -> AbstractContextManager[Any]:
    return transaction.atomic() if in_transaction else nullcontext()


def hold_a_server_connection() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def create(barrier: Barrier, port: int, always: bool, in_transaction: bool) -> str:
    """Prepare the append of a new stream on the first server connection, and execute it on the second."""
    with connected_through(port), prepares(always):
        with unit(in_transaction):
            event_store.append(StreamId("poolers", "own"), [Pooled()], expected=NO_STREAM)
        with transaction.atomic():
            hold_a_server_connection()
            barrier.wait()
            barrier.wait()
        barrier.wait()
        barrier.wait()
        try:
            with unit(in_transaction):
                event_store.append(SHARED, [Pooled()], expected=NO_STREAM)
        except (ConcurrencyError, StorageError) as error:
            return f"{type(error).__name__} {error.retryable} {error}"
        finally:
            barrier.wait()
        return "stored"


def append_to_any(barrier: Barrier, port: int, always: bool) -> str:
    """Prepare another append on the second server connection, and then hold the first."""
    with connected_through(port), prepares(always):
        barrier.wait()
        event_store.append(SHARED, [Pooled()], expected=ANY)
        barrier.wait()
        barrier.wait()
        with transaction.atomic():
            hold_a_server_connection()
            barrier.wait()
            barrier.wait()
    return "stored"


class TestTransactionMode:
    @pytest.mark.parametrize("in_transaction", [False, True], ids=["alone", "in a transaction"])
    @pytest.mark.parametrize("always", [False, True], ids=["by default", "PREPARED_STATEMENTS"])
    def test_fault_a1_a_process_never_executes_the_statement_of_another(
        self, transaction_mode: int, always: bool, in_transaction: bool
    ) -> None:
        calls = [(create, transaction_mode, always, in_transaction), (append_to_any, transaction_mode, always)]
        created, appended = run_processes(call, calls)
        assert appended == "stored"
        assert event_store.version(SHARED) == 1
        if always and in_transaction:
            assert created.startswith("StorageError True")
            assert "PREPARED_STATEMENTS" in created
            assert "max_prepared_statements" in created
        else:
            assert created.startswith("AggregateExists")

    @pytest.mark.parametrize("always", [False, True], ids=["by default", "PREPARED_STATEMENTS"])
    def test_fault_a1_each_error_of_the_pooler_is_retryable(self, transaction_mode: int, always: bool) -> None:
        with prepares(always):
            counts = run_processes(work, [(transaction_mode, always, number) for number in range(3)])
        assert counts == [10, 10, 10]
        assert event_store.version(SHARED) == 30

    def test_fault_a1_by_default_nothing_is_prepared_behind_a_pooler(self) -> None:
        with pgbouncer("transaction") as port, connected_through(port), transaction.atomic():
            for _ in range(2):
                event_store.append(SHARED, [Pooled()], expected=ANY)
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%es_django_stream%'")
                assert cursor.fetchone() == (0,)

    def test_fault_a1_everything_that_a_session_would_keep_stays_within_a_transaction(
        self, transaction_mode: int
    ) -> None:
        with connected_through(transaction_mode), prepares(always=False):
            ledgers.save(Ledger.open("l-1"))
            with ledgers.lock("l-1", timeout=5) as ledger:
                ledger.deposit(1)
            outbox.send("tests", type="poolers.sent", data={})
            assert len(event_store.read_all().events) == 2
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid() "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            assert cursor.fetchall() == []

    def test_fault_a1_a_check_names_the_settings_of_django_that_a_pooler_needs(self, transaction_mode: int) -> None:
        found = {message.id: message for message in run_checks(databases=["default"])}
        assert "es_django.W041" not in found
        with connected_through(transaction_mode):
            connection.ensure_connection()
            connection.connection.prepare_threshold = 5
            found = {message.id: message for message in run_checks(databases=["default"])}
        assert "prepare_threshold" in str(found["es_django.W041"].msg)


def work(barrier: Barrier, port: int, always: bool, number: int) -> int:
    """Append ten events, each in a transaction, and try again after each retryable error."""
    done = 0
    with connected_through(port), prepares(always):
        barrier.wait()
        for _ in range(200):
            try:
                with unit(done % 2 == 0):
                    event_store.append(SHARED, [Pooled()], expected=ANY)
                    if done % 3 == 0:
                        event_store.version(SHARED)
                        ledgers.exists("none")
            except StorageError as error:
                if not error.retryable:
                    raise
            else:
                done += 1
            if done == 10:
                break
    return done


class TestRefusals:
    def test_fault_a1_a_refused_startup_parameter_is_not_retryable_and_named(self, transaction_mode: int) -> None:
        options = connection.settings_dict["OPTIONS"]
        options["options"] = "-c search_path=public"
        try:
            with (
                connected_through(transaction_mode),
                pytest.raises(StorageError, match="ignore_startup_parameters") as caught,
            ):
                event_store.version(SHARED)
        finally:
            del options["options"]
        assert not caught.value.retryable

    @pytest.mark.parametrize(
        ("statement", "setting"),
        [
            ("EXECUTE other_statement", "prepare_threshold"),
            ("PREPARE own AS SELECT 1; PREPARE own AS SELECT 1", "prepare_threshold"),
            ("FETCH 1 FROM other_cursor", "DISABLE_SERVER_SIDE_CURSORS"),
        ],
    )
    def test_fault_a1_errors_of_lost_sessions_name_the_setting(self, statement: str, setting: str) -> None:
        with (
            pytest.raises(StorageError, match=setting),
            storage_errors("work", connection),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)


class TestStatementMode:
    def test_fault_a1_a_transaction_is_refused_with_the_name_of_the_setting(self, statement_mode: int) -> None:
        with connected_through(statement_mode):
            event_store.append(SHARED, [Pooled()], expected=ANY)
            with pytest.raises(StorageError, match="pool_mode") as caught, transaction.atomic():
                event_store.append(SHARED, [Pooled()], expected=ANY)
            assert not caught.value.retryable
            connection.close()
            with pytest.raises(StorageError, match="pool_mode") as caught, event_store.lock(SHARED, 1):
                pass
            assert not caught.value.retryable
            connection.close()
            with pytest.raises(Exception, match="statement pooling mode") as other, transaction.atomic():
                hold_a_server_connection()
            assert not is_retryable(other.value)
        assert event_store.version(SHARED) == 1

    def test_fault_a1_other_errors_of_a_pooler_are_retryable(self) -> None:
        assert is_retryable(psycopg.errors.lookup("08P01")("query_wait_timeout"))


def call(barrier: Barrier, function: Callable[..., str], *arguments: Any) -> str:
    return function(barrier, *arguments)
