"""Statements that PostgreSQL plans once for each connection, since planning an append costs more than the append.

Django's own cursors never prepare, and bind on the client. psycopg's can, but their Python takes longer than all else
that an append does outside the server; so these statements go to libpq by psycopg's own means, but for its cursor.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import count
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from django.db import Error as DatabaseFailure
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.psycopg_any import mogrify
from psycopg import capabilities
from psycopg.abc import PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import FeatureNotSupported, InvalidSqlStatementName, error_from_result
from psycopg.generators import execute, fetch_many
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import TupleRow

from es_django import conf

Driver = psycopg.Connection[Any]
Parameters = Mapping[str, Any]

MOST_PREPARED = 100
"""Of one connection, as many as psycopg itself would keep."""

LONGEST_CANCEL = 5.0
"""Seconds until it is given up, as psycopg does after an interrupt."""


def fetch(
    connection: BaseDatabaseWrapper, statement: str, parameters: Parameters, *, prepare: bool = True
) -> list[TupleRow]:
    """The rows of a statement with named parameters. They travel as text: its columns and casts tell their types. Not
    to be prepared is what is planned best for the parameters of each time."""
    if connection.health_check_enabled:  # type: ignore[attr-defined]
        connection.close_if_health_check_failed()
    if connection.connection is None:
        connection.ensure_connection()
    cursor = PreparedCursor(connection, prepare)
    connection._prepare_cursor(cursor).execute(statement, parameters)  # type: ignore[attr-defined]
    return cursor.rows


class PreparedCursor:
    """What Django needs of a cursor to execute one statement, and to show it to whoever listens."""

    def __init__(self, connection: BaseDatabaseWrapper, prepare: bool) -> None:
        self._connection = connection
        self._prepare = prepare
        self._given: tuple[str, Parameters] | None = None
        self.rows: list[TupleRow] = []

    def execute(self, statement: str, parameters: Parameters) -> None:
        self._given = statement, parameters
        driver = self._connection.connection
        session = _sessions.get(driver)
        if session is None:
            session = _sessions[driver] = _Session(driver)
        self.rows = session.rows(self._connection, statement, parameters, self._prepare)

    @property
    def rowcount(self) -> int:
        return len(self.rows)

    @property
    def _query(self) -> SimpleNamespace | None:
        """Where Django looks for what it logs."""
        if self._given is None:
            return None
        statement, parameters = self._given
        try:
            shown = mogrify(statement, parameters, self._connection)
        except DatabaseFailure:
            # What has happened to the connection is being told already.
            shown = statement
        return SimpleNamespace(query=shown.encode())


@lru_cache(MOST_PREPARED)
def _numbered(statement: str) -> tuple[bytes, list[str]]:
    """The statement with numbers in place of names, and the names in their order."""
    names = list(dict.fromkeys(_PLACEHOLDER.findall(statement)))
    return _PLACEHOLDER.sub(lambda found: f"${names.index(found[1]) + 1}", statement).encode(), names


_PLACEHOLDER = re.compile(r"%\((\w+)\)s")


class _Session:
    """What is kept for a connection of psycopg's: the names of what it has prepared, and how values are written and
    read. Nothing here holds the connection itself."""

    def __init__(self, driver: Driver) -> None:
        self._names: dict[bytes, bytes] = {}
        self._utf8 = Transformer(driver.adapters)

    def rows(
        self, connection: BaseDatabaseWrapper, statement: str, parameters: Parameters, prepare: bool
    ) -> list[TupleRow]:
        query, names = _numbered(statement)
        driver: Driver = connection.connection
        pgconn = driver.pgconn
        with driver.lock:
            if pgconn.pipeline_status:
                raise psycopg.NotSupportedError("psycopg's pipeline() answers too late for this: leave it first")
            is_utf8 = pgconn.parameter_status(b"client_encoding") == b"UTF8"
            transformer = self._utf8 if is_utf8 else Transformer(driver)
            values = transformer.dump_sequence(list(map(parameters.__getitem__, names)), [PyFormat.TEXT] * len(names))
            try:
                result = self._result(driver, query, values, prepare)
            except BaseException:
                if pgconn.pipeline_status or pgconn.transaction_status == TransactionStatus.ACTIVE:
                    _abandon(connection)
                raise
            try:
                transformer.set_pgresult(result)
                return transformer.load_rows(0, result.ntuples, tuple)
            finally:
                transformer.set_pgresult(None)

    def _result(self, driver: Driver, query: bytes, values: Any, prepare: bool) -> PGresult:
        pgconn = driver.pgconn
        name = (self._names.get(query) or self._prepared(driver, query)) if prepare else None
        if pgconn.transaction_status == TransactionStatus.IDLE and not driver.autocommit:
            if capabilities.has_pipeline():
                return self._checked(driver.wait(self._begun_with(driver, name, query, values)))
            driver.wait(driver._start_query())
        _send(pgconn, name, query, values)
        return self._checked(driver.wait(execute(pgconn)))

    def _begun_with(self, driver: Driver, name: bytes | None, query: bytes, values: Any) -> PQGen[list[PGresult]]:
        """BEGIN travels with the statement, where psycopg would wait for its answer first."""
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
            self._checked(results)  # tells more, where the server has ended the session
            raise
        return results

    def _prepared(self, driver: Driver, query: bytes) -> bytes | None:
        """The name of the statement, prepared just now; None if it is not to be prepared."""
        # Where psycopg prepares as well, it sometimes takes all that is prepared away. And there are few statements,
        # unless somebody writes into them what is never the same again.
        is_free = driver.prepare_threshold is None and len(self._names) < MOST_PREPARED
        if not is_free or not conf.settings().prepared_statements:
            return None
        name = b"es_django_%d" % next(_numbers)
        driver.pgconn.send_prepare(name, query)
        self._checked(driver.wait(execute(driver.pgconn)))
        self._names[query] = name
        return name

    def _checked(self, results: list[PGresult]) -> PGresult:
        """The last of the results. Raises the error of the first that failed: what commits by itself may do so after
        its rows have come."""
        for result in results:
            if result.status not in _DONE:
                raise self._failure(result)
        return results[-1]

    def _failure(self, result: PGresult) -> psycopg.Error:
        failure = error_from_result(result)
        if not isinstance(failure, FeatureNotSupported | InvalidSqlStatementName):
            return failure
        # A column is of another type by now, or the statement is gone: DISCARD ALL, or a pooler, has taken it away.
        self._names.clear()
        # By its SQLSTATE it could not be tried again, but now it can.
        return psycopg.OperationalError(f"what was prepared no longer holds: {failure}")


def _abandon(connection: BaseDatabaseWrapper) -> None:
    """Ends a connection whose statement an exception has broken off: what is still to come of it would be taken for the
    rows of the next one. The server is told, since it would go on waiting, with its locks, and store in the end."""
    driver: Driver = connection.connection
    # Then Django takes a new one as soon as it may.
    connection.errors_occurred = True
    try:
        with suppress(psycopg.Error):
            driver.cancel_safe(timeout=LONGEST_CANCEL)
    finally:
        driver.close()


def _send(pgconn: PGconn, name: bytes | None, query: bytes, values: Any) -> None:
    if name is None:
        pgconn.send_query_params(query, values, result_format=Format.BINARY)
    else:
        pgconn.send_query_prepared(name, values, result_format=Format.BINARY)


_DONE = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)

_sessions: WeakKeyDictionary[Driver, _Session] = WeakKeyDictionary()

_numbers = count()
