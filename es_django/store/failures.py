"""What the database raises, as this package's errors, told apart by constraint name and code, never by text.

An error that passed for something else would be retried for ever, or given up too soon.
"""

import re
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseFailure
from django.db import connections, transaction

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
    """Turns what the database raises within the block into this package's errors, and marks the transaction, if there
    is one, of the database that it `dooms` for rollback.

    PostgreSQL answers the COMMIT of a failed transaction with a rollback and no error, so whoever catches the error and
    goes on must not be told that all is well.
    """

    def __init__(self, operation: str, *, dooms: str | None = None) -> None:
        self._operation = operation
        self._dooms = dooms

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DatabaseFailure):
            if self._dooms is not None and connections[self._dooms].in_atomic_block:
                transaction.set_rollback(True, using=self._dooms)
            raise _domain_error(self._operation, error) from error.__cause__ or error


def is_conflict(error: EsDjangoError) -> bool:
    """Whether nothing was stored because others were at the same data: the version says so, or PostgreSQL does, which
    ends one of the transactions that it cannot put in a row or that wait for each other."""
    return isinstance(error, ConcurrencyError) or getattr(error.__cause__, "sqlstate", None) in _CONFLICTS


def refuse_swallowed_failure(using: str, operation: str) -> None:
    """Raises `StorageError` if code of the project has caught a database error that spoilt the transaction: Django, or
    PostgreSQL where the error was of raw SQL, would roll it back in silence."""
    connection = connections[using]
    if connection.needs_rollback or _is_failed(connection):
        reason = "a database error was caught inside it; put what may fail into an atomic() of its own"
        raise StorageError(operation, False, reason)


def _is_failed(connection: Any) -> bool:
    if connection.vendor != "postgresql" or not connection.in_atomic_block:
        return False
    return bool(connection.connection.pgconn.transaction_status == _IN_ERROR)


def _domain_error(operation: str, failure: DatabaseFailure) -> EsDjangoError:
    diagnosis = getattr(failure.__cause__, "diag", None)
    if diagnosis is not None and (duplicate := _DUPLICATES.get(diagnosis.constraint_name)):
        return duplicate([UUID(found) for found in _UUID.findall(diagnosis.message_detail or "")])
    reason = diagnosis.message_primary if diagnosis is not None and diagnosis.message_primary else str(failure)
    return StorageError(operation, is_retryable(failure), reason)


_IN_ERROR = 3
"""psycopg.pq.TransactionStatus.INERROR, which is not to be imported where there is no PostgreSQL."""

_CONFLICTS = frozenset({"40001", "40P01"})

_DUPLICATES: dict[str, type[DuplicateEvent] | type[DuplicateMessage]] = {
    "es_django_event_id": DuplicateEvent,
    "es_django_outbox_message_id": DuplicateMessage,
}
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
