"""What the database raises, as this package's errors, told apart by constraint name and code, never by text.

An error that passed for something else would be retried for ever, or given up too soon.
"""

import re
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseFailure
from django.db import connections

from es_django.errors import (
    ConcurrencyError,
    DuplicateEvent,
    DuplicateMessage,
    EsDjangoError,
    StorageError,
    is_retryable,
)


# A class, as a generator would cost each append several times as much.
class storage_errors:
    """Turns what the database raises within the block into this package's errors, and marks the transaction of the
    database `using` for rollback, if the error has broken it or the block `writes`.

    PostgreSQL answers the COMMIT of a broken transaction with a rollback and no error, so whoever catches the error and
    goes on must not be told that all is well. A write that failed marks also a transaction that could go on, as a
    model's `save()` does: the rest would be committed without it.
    """

    def __init__(self, operation: str, *, using: str | None = None, writes: bool = False) -> None:
        self._operation = operation
        self._using = using
        self._writes = writes

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DatabaseFailure):
            if self._using is not None:
                self._doom(connections[self._using])
            raise _domain_error(self._operation, error) from error.__cause__ or error

    def _doom(self, connection: Any) -> None:
        if connection.in_atomic_block and (self._writes or _is_broken(connection)):
            connection.set_rollback(True)


def is_conflict(error: EsDjangoError) -> bool:
    """Whether nothing was stored because others were at the same data: the version says so, or PostgreSQL does, which
    ends one of the transactions that it cannot put in a row or that wait for each other."""
    return isinstance(error, ConcurrencyError) or getattr(error.__cause__, "sqlstate", None) in _CONFLICTS


def refuse_swallowed_failure(using: str, operation: str) -> None:
    """Raises `StorageError` if code of the project has caught a database error that spoilt the transaction: Django, or
    the database where the error was of raw SQL, would roll it back in silence."""
    connection = connections[using]
    if connection.needs_rollback or (connection.in_atomic_block and _is_broken(connection)):
        reason = "a database error was caught inside it; put what may fail into an atomic() of its own"
        raise StorageError(operation, False, reason)


def _is_broken(connection: Any) -> bool:
    """Whether the transaction of an atomic block can no longer be committed, or is already rolled back."""
    driver = connection.connection
    if driver is None:
        return True
    if connection.vendor == "postgresql":
        return driver.pgconn.transaction_status not in _SOUND
    return not driver.in_transaction


def _domain_error(operation: str, failure: DatabaseFailure) -> EsDjangoError:
    diagnosis = getattr(failure.__cause__, "diag", None)
    if diagnosis is not None and (duplicate := _DUPLICATES.get(diagnosis.constraint_name)):
        return duplicate([UUID(found) for found in _UUID.findall(diagnosis.message_detail or "")])
    reason = diagnosis.message_primary if diagnosis is not None and diagnosis.message_primary else str(failure)
    return StorageError(operation, is_retryable(failure), reason)


_SOUND = (0, 2)
"""IDLE, as BEGIN goes out with the first statement, and INTRANS of psycopg.pq.TransactionStatus, which is not to be
imported where there is no PostgreSQL."""

_CONFLICTS = frozenset({"40001", "40P01"})

_DUPLICATES: dict[str, type[DuplicateEvent] | type[DuplicateMessage]] = {
    "es_django_event_id": DuplicateEvent,
    "es_django_outbox_message_id": DuplicateMessage,
}
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
