"""What the database raises, as this package's errors, told apart by constraint name and code, never by text.

An error that passed for something else would be retried for ever, or given up too soon.
"""

import re
from traceback import walk_tb
from typing import Any, NoReturn
from uuid import UUID

import msgspec
from django.db import Error as DatabaseFailure
from django.db.backends.base.base import BaseDatabaseWrapper

from es_django.core.errors import EsDjangoError
from es_django.core.retryability import is_retryable
from es_django.store.errors import ConcurrencyError, DuplicateEvent, DuplicateMessage, StorageError


# A class, as a generator would cost each append several times as much.
class storage_errors(msgspec.Struct):
    """Turns what the database raises within the block into this package's errors. Where that has broken the transaction
    of the connection, or the block `writes`, the transaction is marked for rollback; one that is broken already is
    refused.

    PostgreSQL answers the COMMIT of a broken transaction with a rollback and no error, and SQLite stores what follows
    its rollback by itself; so whoever catches the error and goes on must not be told that all is well. A write that
    failed marks also a transaction that could go on, as a model's `save()` does: the rest would be stored without it.
    """

    operation: str
    connection: BaseDatabaseWrapper
    writes: bool = False

    def __enter__(self) -> None:
        if self.connection.in_atomic_block and _is_broken(self.connection):
            _refuse(self.operation, self.connection)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        connection, failed = self.connection, isinstance(error, DatabaseFailure)
        if connection.in_atomic_block and ((failed and self.writes) or _is_broken(connection)):
            connection.set_rollback(True)
        if isinstance(error, DatabaseFailure) and not _is_of_a_hook(error):
            raise _domain_error(self.operation, error) from error.__cause__ or error


def is_conflict(error: EsDjangoError) -> bool:
    """Whether nothing was stored because others were at the same data: the version says so, or PostgreSQL does, which
    ends one of the transactions that it cannot put in a row or that wait for each other."""
    is_one = isinstance(error, ConcurrencyError) or getattr(error.__cause__, "sqlstate", None) in _CONFLICTS
    return is_one and not _is_of_a_hook(error)


def require_healthy_transaction(operation: str, connection: BaseDatabaseWrapper) -> None:
    """Raises `StorageError` if code of the project has caught a database error that spoilt the transaction: Django, or
    the database where the error was of raw SQL, would roll it back in silence."""
    if connection.needs_rollback or (connection.in_atomic_block and _is_broken(connection)):
        _refuse(operation, connection)


def _refuse(operation: str, connection: BaseDatabaseWrapper) -> NoReturn:
    connection.set_rollback(True)
    reason = "a database error was caught inside the transaction; put what may fail into an atomic() of its own"
    raise StorageError(operation, False, reason)


def _is_broken(connection: BaseDatabaseWrapper) -> bool:
    """Whether the transaction of an atomic block would be rolled back, or is already, and Django does not know. Where
    the connection is lost, all that follows says so, and the COMMIT too."""
    if connection.needs_rollback:
        return False
    driver: Any = connection.connection
    if connection.vendor == "postgresql":
        return bool(driver.pgconn.transaction_status == _IN_ERROR)
    # With an isolation level, as where Django's autocommit is off, the driver begins with the first write.
    return not driver.in_transaction and driver.isolation_level is None


def _is_of_a_hook(error: BaseException) -> bool:
    """Whether it comes out of what was handed to `on_commit`: then all is stored, though Django runs that within the
    atomic block that it has just committed."""
    return any(frame.f_code is _RUNS_HOOKS for frame, _ in walk_tb(error.__traceback__))


def _domain_error(operation: str, failure: DatabaseFailure) -> EsDjangoError:
    diagnosis = getattr(failure.__cause__, "diag", None)
    if diagnosis is not None and (duplicate := _DUPLICATES.get(diagnosis.constraint_name)):
        return duplicate([UUID(found) for found in _UUID.findall(diagnosis.message_detail or "")])
    reason = diagnosis.message_primary if diagnosis is not None and diagnosis.message_primary else str(failure)
    return StorageError(operation, is_retryable(failure), reason)


_RUNS_HOOKS = BaseDatabaseWrapper.run_and_clear_commit_hooks.__code__

_IN_ERROR = 3
"""psycopg.pq.TransactionStatus.INERROR, which is not to be imported where there is no PostgreSQL."""

_CONFLICTS = frozenset({"40001", "40P01"})

_DUPLICATES: dict[str, type[DuplicateEvent] | type[DuplicateMessage]] = {
    "es_django_event_id": DuplicateEvent,
    "es_django_outbox_message_id": DuplicateMessage,
}
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
