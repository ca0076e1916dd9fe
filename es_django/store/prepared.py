"""Statements that PostgreSQL plans once for each connection, since planning an append costs more than the append.

Django's own cursors never prepare, and bind on the client.
"""

from typing import Any, Self
from weakref import WeakKeyDictionary

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from psycopg.rows import TupleRow

from es_django import conf


class PreparedCursor(psycopg.Cursor[TupleRow]):
    """Prepares each of its statements, if ES_DJANGO["PREPARED_STATEMENTS"] allows it."""

    def execute(
        self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> Self:
        connection = self.connection
        threshold = connection.prepare_threshold
        if conf.settings().prepared_statements:
            connection.prepare_threshold = 0
        try:
            return super().execute(query, params, prepare=prepare, binary=binary)
        except (psycopg.errors.FeatureNotSupported, psycopg.errors.InvalidSqlStatementName) as failure:
            # A column is of another type by now, or the statement is gone: DISCARD ALL, or a pooler, has taken it away.
            # Not _prepared.clear(): it would deallocate after the next statement, and with it what that one prepares.
            connection._prepared._names.clear()
            # By its SQLSTATE it could not be tried again, but now it can.
            raise psycopg.OperationalError(f"what was prepared no longer holds: {failure}") from None
        finally:
            connection.prepare_threshold = threshold

    def _convert_query(self, query: Any, params: Any = None) -> Any:
        # What Django shows of it where it logs queries, which psycopg keeps of statements that are not prepared alone.
        self._query = super()._convert_query(query, params)
        return self._query


def prepared_cursor(connection: BaseDatabaseWrapper) -> CursorWrapper:
    """A new cursor, to be closed, as Django's own are."""
    return _wrapped(connection, PreparedCursor(_driver(connection)))


def fetch_binary(connection: BaseDatabaseWrapper, statement: str, parameters: Any = None) -> list[TupleRow]:
    """The rows of a statement, in the types that psycopg makes of binary ones. By a cursor that stays open for the next
    statement, as making it would cost a tenth of an append."""
    driver = _driver(connection)
    # Not there while it is in use: an execute_wrapper may append as well.
    cursor = _idle_cursors.pop(connection, None)
    if cursor is None or cursor.connection is not driver:
        cursor = PreparedCursor(driver)
        cursor.format = psycopg.pq.Format.BINARY
    _wrapped(connection, cursor).execute(statement, parameters)
    rows = cursor.fetchall()
    _idle_cursors[connection] = cursor
    return rows


_idle_cursors: WeakKeyDictionary[BaseDatabaseWrapper, PreparedCursor] = WeakKeyDictionary()


def _driver(connection: BaseDatabaseWrapper) -> Any:
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    return connection.connection


def _wrapped(connection: BaseDatabaseWrapper, cursor: PreparedCursor) -> CursorWrapper:
    wrapped: CursorWrapper = connection._prepare_cursor(cursor)  # type: ignore[attr-defined]
    return wrapped
