"""Statements that PostgreSQL plans once for each connection, since planning an append costs more than the append.

Django's own cursors never prepare, and bind on the client. psycopg's can, but their Python takes longer than all else
that an append does outside the server; so these statements go to libpq by psycopg's own means, but for its cursor.
"""

import re
from collections.abc import Mapping
from functools import cache
from itertools import count
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.psycopg_any import mogrify
from psycopg import capabilities
from psycopg.abc import PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import FeatureNotSupported, InvalidSqlStatementName, error_from_result
from psycopg.generators import execute, fetch_many
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

from es_django import conf

Driver = psycopg.Connection[Any]
Parameters = Mapping[str, Any]


def fetch(connection: BaseDatabaseWrapper, statement: str, parameters: Parameters) -> list[TupleRow]:
    """The rows of a statement with named parameters. They travel as text: its columns and casts tell their types."""
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    cursor = PreparedCursor(connection)
    connection._prepare_cursor(cursor).execute(statement, parameters)  # type: ignore[attr-defined]
    return cursor.rows


class PreparedCursor:
    """What Django needs of a cursor to execute one statement, and to show it to whoever listens."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self.rows: list[TupleRow] = []

    def execute(self, statement: str, parameters: Parameters) -> None:
        self._executed = statement, parameters
        driver = self._connection.connection
        session = _sessions.get(driver)
        if session is None:
            session = _sessions[driver] = _Session(driver)
        self.rows = session.rows(driver, statement, parameters)

    @property
    def rowcount(self) -> int:
        return len(self.rows)

    @property
    def _query(self) -> SimpleNamespace:
        """Where Django looks for what it logs."""
        statement, parameters = self._executed
        return SimpleNamespace(query=mogrify(statement, parameters, self._connection).encode())


@cache
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
        self._transformer = Transformer(driver.adapters)

    def rows(self, driver: Driver, statement: str, parameters: Parameters) -> list[TupleRow]:
        query, names = _numbered(statement)
        with driver.lock:
            transformer = self._transformer
            values = transformer.dump_sequence([parameters[name] for name in names], [PyFormat.TEXT] * len(names))
            result = driver.wait(self._result(driver, query, values))
            transformer.set_pgresult(result)
            rows = transformer.load_rows(0, result.ntuples, tuple)
            transformer.set_pgresult(None)
        return rows

    def _result(self, driver: Driver, query: bytes, values: Any) -> PQGen[PGresult]:
        pgconn = driver.pgconn
        # Where psycopg prepares as well, it sometimes takes all that is prepared away.
        prepares = driver.prepare_threshold is None and conf.settings().prepared_statements
        if prepares and query not in self._names:
            name = b"es_django_%d" % next(_numbers)
            pgconn.send_prepare(name, query)
            self._checked((yield from execute(pgconn)))
            self._names[query] = name
        begins = not driver.autocommit and pgconn.transaction_status == TransactionStatus.IDLE
        if begins and not capabilities.has_pipeline():
            yield from driver._start_query()
            begins = False
        if begins:
            # BEGIN travels with the statement, where psycopg would wait for its answer first.
            pgconn.enter_pipeline_mode()
            pgconn.send_query_params(driver._get_tx_start_command(), None)
        if prepares:
            pgconn.send_query_prepared(self._names[query], values, result_format=Format.BINARY)
        else:
            pgconn.send_query_params(query, values, result_format=Format.BINARY)
        if not begins:
            return self._checked((yield from execute(pgconn)))
        pgconn.pipeline_sync()
        begun = yield from execute(pgconn)
        done = yield from fetch_many(pgconn)
        try:
            # All is read before anything is raised: this is the end of the pipeline.
            yield from fetch_many(pgconn)
            pgconn.exit_pipeline_mode()
        finally:
            self._checked(begun)
            result = self._checked(done)
        return result

    def _checked(self, results: list[PGresult]) -> PGresult:
        (result,) = results
        if result.status in _DONE:
            return result
        failure = error_from_result(result)
        if isinstance(failure, FeatureNotSupported | InvalidSqlStatementName):
            # A column is of another type by now, or the statement is gone: DISCARD ALL, or a pooler, has taken it away.
            self._names.clear()
            # By its SQLSTATE it could not be tried again, but now it can.
            raise psycopg.OperationalError(f"what was prepared no longer holds: {failure}")
        raise failure


_DONE = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)

_sessions: WeakKeyDictionary[Driver, _Session] = WeakKeyDictionary()

_numbers = count()
