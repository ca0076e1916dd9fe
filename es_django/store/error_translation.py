"""Translates the errors of the database into the errors of this package, by constraint name and error code.

A wrong translation would have a caller retry an error for ever, or give up too soon.
"""

import re
from typing import Any, NoReturn
from uuid import UUID

import msgspec
from django.db import Error as DatabaseFailure
from django.db.backends.base.base import BaseDatabaseWrapper

from es_django.core.errors import EsDjangoError
from es_django.core.retryability import is_retryable
from es_django.store.commit_tracking import is_after_commit
from es_django.store.errors import ConcurrencyError, DuplicateEvent, DuplicateMessage, StorageError


# A class, because a generator-based context manager would cost every append several times as much.
class storage_errors(msgspec.Struct):
    """Translate the database errors of the block, which performs `operation`.

    An error that breaks the transaction of `connection` marks it for rollback; so does every database error of a block
    that `writes`. Otherwise a caller that catches the error and goes on would believe that its changes are committed:

    - PostgreSQL answers the COMMIT of a broken transaction with a rollback, and raises no error.
    - SQLite rolls back, and then stores each later statement by itself.
    - After a failed write, a commit would store the other changes without it.

    Raise `StorageError` at once if the transaction is already broken. An error of an on_commit callback passes
    unchanged, because the changes are stored.
    """

    operation: str
    connection: BaseDatabaseWrapper
    writes: bool = False

    def __enter__(self) -> None:
        if self.connection.in_atomic_block and _is_broken(self.connection):
            _raise_broken(self.operation, self.connection)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        connection, failed = self.connection, isinstance(error, DatabaseFailure)
        if connection.in_atomic_block and ((failed and self.writes) or _is_broken(connection)):
            connection.set_rollback(True)
        if isinstance(error, DatabaseFailure) and not is_after_commit(error):
            raise _domain_error(self.operation, error) from error.__cause__ or error


def is_conflict(error: EsDjangoError) -> bool:
    """Return whether nothing was stored because another transaction changed the same data.

    The stream's version says so, or PostgreSQL does: it ends one of the transactions in a serialization failure or a
    deadlock.
    """
    is_one = isinstance(error, ConcurrencyError) or getattr(error.__cause__, "sqlstate", None) in _CONFLICTS
    return is_one and not is_after_commit(error)


def require_healthy_transaction(operation: str, connection: BaseDatabaseWrapper) -> None:
    """Raise `StorageError` if code of the project caught a database error that broke the transaction. Django, or the
    database after raw SQL, would roll the transaction back without an error."""
    if connection.needs_rollback or (connection.in_atomic_block and _is_broken(connection)):
        _raise_broken(operation, connection)


def _raise_broken(operation: str, connection: BaseDatabaseWrapper) -> NoReturn:
    connection.set_rollback(True)
    reason = "a database error was caught inside the transaction: wrap the code that may fail in its own atomic() block"
    raise StorageError(operation, False, reason)


def _is_broken(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the database rolls the transaction back, or already has, and Django does not know.

    A lost connection does not count: every later statement fails then, and the COMMIT too.
    """
    if connection.needs_rollback:
        return False
    driver: Any = connection.connection
    if connection.vendor == "postgresql":
        return bool(driver.pgconn.transaction_status == _IN_ERROR)
    # With an isolation level, which Django sets when autocommit is off, the driver begins at the first write.
    return not driver.in_transaction and driver.isolation_level is None


def _domain_error(operation: str, failure: DatabaseFailure) -> EsDjangoError:
    diagnosis = getattr(failure.__cause__, "diag", None)
    if diagnosis is not None and (duplicate := _DUPLICATES.get(diagnosis.constraint_name)):
        return duplicate([UUID(found) for found in _UUID.findall(diagnosis.message_detail or "")])
    reason = diagnosis.message_primary if diagnosis is not None and diagnosis.message_primary else str(failure)
    return StorageError(operation, is_retryable(failure), reason)


_IN_ERROR = 3
"""psycopg.pq.TransactionStatus.INERROR, written out because SQLite projects need not install psycopg."""

_CONFLICTS = frozenset({"40001", "40P01"})

_DUPLICATES: dict[str, type[DuplicateEvent] | type[DuplicateMessage]] = {
    "es_django_event_id": DuplicateEvent,
    "es_django_outbox_message_id": DuplicateMessage,
}
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
