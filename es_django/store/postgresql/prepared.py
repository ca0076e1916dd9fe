"""Execute statements that PostgreSQL plans once per connection. Planning an append takes longer than executing it.

Django's cursors never prepare a statement, and they write the parameters into its text. psycopg's cursor can prepare,
but its Python code takes longer than everything else that an append does outside the server. This module still uses
psycopg to convert values, to wait for the server and to make errors, but sends the statement through libpq itself.
"""

import re
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import psycopg
from django.db import NotSupportedError
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import capabilities
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import (
    DuplicatePreparedStatement,
    FeatureNotSupported,
    InvalidSqlStatementName,
    error_from_result,
)
from psycopg.generators import execute, fetch_many
from psycopg.pq import ExecStatus, Format, TransactionStatus

from es_django import conf
from es_django.store.postgresql.plain_cursor import IN_PIPELINE, Parameters, Rows, abandon
from es_django.store.postgresql.poolers import is_direct
from es_django.store.search_path import acts_on_cursors

if TYPE_CHECKING:
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn, PGresult

Driver = psycopg.Connection[Any]

PARTS: dict[str, tuple[str, ...]] = {
    "DatabaseWrapper": (
        "close_if_health_check_failed",
        "ensure_connection",
        "health_check_enabled",
        "make_cursor",
        "validate_thread_sharing",
    ),
    "Connection": ("_get_tx_start_command", "_start_query", "adapters", "lock", "prepare_threshold", "wait"),
    "PGconn": (
        "backend_pid",
        "enter_pipeline_mode",
        "exit_pipeline_mode",
        "parameter_status",
        "pipeline_status",
        "pipeline_sync",
        "send_prepare",
        "send_query_params",
        "send_query_prepared",
        "transaction_status",
    ),
    "Transformer": ("dump_sequence", "load_rows", "set_pgresult"),
    "capabilities": ("has_pipeline",),
}
"""The attributes of Django and psycopg that this module uses although their manuals do not promise them."""

MAX_PREPARED = 100
"""The number of prepared statements per connection, the same as psycopg's own limit."""

REMEDY = (
    "If DISCARD ALL, DEALLOCATE ALL or a migration made it invalid, a retry prepares it again. If a pooler shares "
    'server connections between clients, remove ES_DJANGO["PREPARED_STATEMENTS"] or set it to False, or let the pooler '
    "track prepared statements (PgBouncer 1.21 and newer: max_prepared_statements)"
)


def missing_parts(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the names in `PARTS` that the installed Django and psycopg lack."""
    driver = connection.connection
    owners: dict[str, object] = {
        "DatabaseWrapper": connection,
        "Connection": driver,
        "PGconn": driver.pgconn,
        "Transformer": Transformer,
        "capabilities": capabilities,
    }
    return [f"{owner}.{name}" for owner, names in PARTS.items() for name in names if not hasattr(owners[owner], name)]


def fetch(connection: BaseDatabaseWrapper, statement: str, parameters: Parameters, prepare: bool) -> Rows:
    """Return the rows of a statement with named parameters. The parameters travel as text."""
    if connection.health_check_enabled:  # type: ignore[attr-defined]
        connection.close_if_health_check_failed()
    if connection.connection is None:
        connection.ensure_connection()
    connection.validate_thread_sharing()
    if acts_on_cursors(connection):
        with connection.cursor():
            pass
    cursor = PreparedCursor(connection, prepare)
    connection.make_cursor(cursor).execute(statement, parameters)  # type: ignore[arg-type]
    return cursor.rows


class PreparedCursor:
    """A cursor for one statement, with only the attributes that Django's cursor wrapper and `execute_wrapper` use."""

    def __init__(self, connection: BaseDatabaseWrapper, prepare: bool) -> None:
        self._connection = connection
        self._prepare = prepare
        self.rows: Rows = []

    @property
    def rowcount(self) -> int:
        return len(self.rows)

    def execute(self, statement: str, parameters: Parameters) -> None:
        query, names = _numbered(statement)
        driver: Driver = self._connection.connection
        pgconn = driver.pgconn
        session = _sessions.get(driver)
        if session is None:
            session = _sessions[driver] = _Session(driver)
        with driver.lock:
            if pgconn.pipeline_status:
                raise NotSupportedError(IN_PIPELINE)
            is_utf8 = pgconn.parameter_status(b"client_encoding") == b"UTF8"
            transformer = session.utf8 if is_utf8 else Transformer(driver)
            values = transformer.dump_sequence(list(map(parameters.__getitem__, names)), [PyFormat.TEXT] * len(names))
            try:
                result = session.result(driver, query, values, self._prepare)
            except BaseException:
                if pgconn.pipeline_status or pgconn.transaction_status == TransactionStatus.ACTIVE:
                    abandon(self._connection)
                raise
            try:
                transformer.set_pgresult(result)
                self.rows = transformer.load_rows(0, result.ntuples, tuple)
            finally:
                transformer.set_pgresult(None)


@lru_cache(MAX_PREPARED)
def _numbered(statement: str) -> tuple[bytes, list[str]]:
    """Return the statement with $1, $2 and so on instead of named placeholders, and the names in that order."""
    names = list(dict.fromkeys(_PLACEHOLDER.findall(statement)))
    return _PLACEHOLDER.sub(lambda found: f"${names.index(found[1]) + 1}", statement).encode(), names


_PLACEHOLDER = re.compile(r"%\((\w+)\)s")


class _Session:
    """The prepared statements and the adapters of one psycopg connection.

    A session holds no reference to its connection, so that Python can free both.
    """

    def __init__(self, driver: Driver) -> None:
        self._names: dict[bytes, bytes] = {}
        self._generation = 0
        self._keeps_statements: bool | None = None
        self.utf8 = Transformer(driver.adapters)

    def result(self, driver: Driver, query: bytes, values: Any, prepare: bool) -> "PGresult":
        stands_alone = driver.autocommit and driver.pgconn.transaction_status == TransactionStatus.IDLE
        name = None
        try:
            if prepare:
                name = self._names.get(query) or self._prepare(driver, query)
            return self._execute(driver, name, query, values)
        except (DuplicatePreparedStatement, InvalidSqlStatementName, FeatureNotSupported) as error:
            if name is None and not isinstance(error, DuplicatePreparedStatement):
                raise
            self._forget(error)
            if not stands_alone:
                # By its SQLSTATE, the error is not retryable. A retry of the transaction succeeds, though.
                raise psycopg.OperationalError(f"a prepared statement is not valid: {error}. {REMEDY}") from error
        # The statement was a transaction of its own and did nothing.
        return self._execute(driver, None, query, values)

    def _execute(self, driver: Driver, name: bytes | None, query: bytes, values: Any) -> "PGresult":
        pgconn = driver.pgconn
        if pgconn.transaction_status == TransactionStatus.IDLE and not driver.autocommit:
            if capabilities.has_pipeline():
                return _last(driver.wait(self._execute_with_begin(driver, name, query, values)))
            driver.wait(driver._start_query())
        _send(pgconn, name, query, values)
        return _last(driver.wait(execute(pgconn)))

    def _execute_with_begin(
        self, driver: Driver, name: bytes | None, query: bytes, values: Any
    ) -> "PQGen[list[PGresult]]":
        """Send BEGIN together with the statement. This saves a round trip: psycopg would await the answer to BEGIN."""
        pgconn = driver.pgconn
        pgconn.enter_pipeline_mode()
        pgconn.send_query_params(driver._get_tx_start_command(), None)
        _send(pgconn, name, query, values)
        pgconn.pipeline_sync()
        results: list[PGresult] = yield from execute(pgconn)
        results += yield from fetch_many(pgconn)
        try:
            yield from fetch_many(pgconn)
            pgconn.exit_pipeline_mode()
        except psycopg.OperationalError:
            # If the server ended the session, raise the server's error, which says more than this one.
            _last(results)
            raise
        return results

    def _prepare(self, driver: Driver, query: bytes) -> bytes | None:
        """Prepare the statement and return its name, or None if it must not be prepared."""
        # If the project sets prepare_threshold, psycopg prepares too, and sometimes deallocates all statements. The
        # limit is for projects whose execute_wrapper makes every statement different.
        wanted = conf.settings().prepared_statements
        if wanted is False or driver.prepare_threshold is not None or len(self._names) >= MAX_PREPARED:
            return None
        if self._keeps_statements is None:
            self._keeps_statements = wanted is True or is_direct(driver)
        if not self._keeps_statements:
            return None
        name = _name(query, self._generation)
        driver.pgconn.send_prepare(name, query)
        _last(driver.wait(execute(driver.pgconn)))
        self._names[query] = name
        return name

    def _forget(self, error: psycopg.Error) -> None:
        # An invalid statement may still exist under its name, so the next names differ.
        self._names.clear()
        self._generation += 1
        if isinstance(error, DuplicatePreparedStatement):
            # Only another client of a pooler can have prepared the statement in this session.
            self._keeps_statements = False


def _name(query: bytes, generation: int) -> bytes:
    """Return a name that no other statement can have.

    Clients of a pooler share sessions. So the name must mean the same statement in each process, whatever the process
    prepared before. PostgreSQL itself analyses the statement again after the search_path has changed.
    """
    return f"es_django_{sha256(query).hexdigest()[:32]}_{generation}".encode()


def _last(results: "list[PGresult]") -> "PGresult":
    """Return the last result, or raise the error of the first that failed.

    A statement that commits by itself can fail at the commit, after its rows.
    """
    for result in results:
        if result.status not in _SUCCESS:
            raise error_from_result(result)
    return results[-1]


def _send(pgconn: "PGconn", name: bytes | None, query: bytes, values: Any) -> None:
    if name is None:
        pgconn.send_query_params(query, values, result_format=Format.BINARY)
    else:
        pgconn.send_query_prepared(name, values, result_format=Format.BINARY)


_SUCCESS = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)

_sessions: WeakKeyDictionary[Driver, _Session] = WeakKeyDictionary()
