"""Fetch rows through Django's own cursor, and end a connection whose statement was interrupted."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import psycopg
from django.db import NotSupportedError
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

if TYPE_CHECKING:
    from psycopg.abc import Buffer, Loader

Parameters = Mapping[str, Any]
Rows = list[tuple[Any, ...]]

IN_PIPELINE = "inside psycopg's pipeline() the result of the statement arrives too late: leave the pipeline first"

CANCEL_TIMEOUT = 5.0
"""The seconds in which the server must confirm a cancellation. psycopg uses the same number after an interrupt."""


def fetch(connection: BaseDatabaseWrapper, statement: str, parameters: Parameters, prepare: bool) -> Rows:
    """Return the rows of a statement with named parameters. `prepare` has no effect: Django never prepares."""
    with connection.cursor() as cursor:
        driver = connection.connection
        if driver.pgconn.pipeline_status:
            raise NotSupportedError(IN_PIPELINE)
        if connection.timezone is not UTC:
            cursor.adapters.register_loader("timestamptz", _utc_loader())
        try:
            cursor.execute(statement, parameters)
            return cast("Rows", cursor.fetchall())
        except BaseException:
            if driver.pgconn.transaction_status == TransactionStatus.ACTIVE:
                abandon(connection)
            raise


@cache
def _utc_loader() -> "type[Loader]":
    # Imported only here, so that a release of psycopg without this module breaks no project that uses UTC.
    from psycopg.types.datetime import TimestamptzLoader

    class UtcLoader(TimestamptzLoader):
        """Load times in UTC, as prepared.py does. Django's loader uses local time, or none if USE_TZ is off."""

        def load(self, data: "Buffer") -> datetime:
            return super().load(data).astimezone(UTC)

    return UtcLoader


def abandon(connection: BaseDatabaseWrapper) -> None:
    """Cancel the statement that an exception interrupted, and close its connection.

    If the connection stayed open, the next statement would read the rows of the interrupted one. Without the
    cancellation, the server would go on waiting for locks, and would commit the statement in the end.
    """
    driver: psycopg.Connection[Any] = connection.connection
    # With this flag, Django opens a new connection at the next opportunity.
    connection.errors_occurred = True
    try:
        with suppress(psycopg.Error):
            driver.cancel_safe(timeout=CANCEL_TIMEOUT)
    finally:
        driver.close()
