"""Translate the errors of the database into the errors of this package, by constraint name and error code.

A wrong translation would make a caller retry an error for ever, or give up too soon.
"""

import re
from typing import Any, NoReturn
from uuid import UUID

import msgspec
from django.db import Error as DatabaseFailure
from django.db.backends.base.base import BaseDatabaseWrapper

from es_django.core.database_errors import decision_on
from es_django.core.errors import EsDjangoError
from es_django.core.retryability import is_retryable
from es_django.store.commit_tracking import is_after_commit
from es_django.store.errors import ConcurrencyError, DuplicateEvent, DuplicateMessage, LogOutOfOrder, StorageError


# This is a class, because every append uses it, and a generator-based context manager takes several times as long.
class storage_errors(msgspec.Struct):
    """Translate the database errors of the block, which performs `operation`.

    Mark the transaction of `connection` for rollback after an error that breaks the transaction. If the block `writes`,
    mark the transaction after every database error. Without this mark, a caller that catches the error and goes on
    would wrongly believe that its changes are committed:

    - PostgreSQL answers the COMMIT of a broken transaction with a rollback, and raises no error.
    - SQLite rolls the transaction back, and then commits each later statement by itself.
    - A commit after a failed write would store the other changes without that write.

    If the transaction is already broken, raise `StorageError` before the block runs. Do not translate an error of an
    on_commit callback, because the changes are stored.
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
        connection, failure = self.connection, _failure(error, self.connection)
        if connection.in_atomic_block and ((failure is not None and self.writes) or _is_broken(connection)):
            connection.set_rollback(True)
        if failure is not None and not is_after_commit(error):
            raise _domain_error(self.operation, failure) from failure.__cause__ or failure


def is_conflict(error: EsDjangoError) -> bool:
    """Return whether nothing was stored because another transaction changed the same data.

    A conflict is a `ConcurrencyError`, or a serialization failure or deadlock by which PostgreSQL ends a transaction.
    """
    is_one = (isinstance(error, ConcurrencyError) and error.retryable) or getattr(
        error.__cause__, "sqlstate", None
    ) in _CONFLICTS
    return is_one and not is_after_commit(error)


def require_healthy_transaction(operation: str, connection: BaseDatabaseWrapper) -> None:
    """Raise `StorageError` if code of the project caught a database error that broke the transaction.

    Without this check, Django would roll the transaction back without an error. After raw SQL, the database would.
    """
    if connection.needs_rollback or (connection.in_atomic_block and _is_broken(connection)):
        _raise_broken(operation, connection)


def _failure(error: BaseException, connection: BaseDatabaseWrapper) -> Exception | None:
    """Return the error of the database, or None if this error is not one.

    With DEBUG, Django formats each statement for its log after it ran. On a lost connection the formatting fails too,
    with an error of the driver that Django does not wrap, and this error hides the statement's own.
    """
    if isinstance(error, DatabaseFailure):
        return error
    driver: Any = connection
    if not isinstance(error, driver.Database.Error):
        return None
    return error.__context__ if isinstance(error.__context__, DatabaseFailure) else error


def _raise_broken(operation: str, connection: BaseDatabaseWrapper) -> NoReturn:
    connection.set_rollback(True)
    reason = "a database error was caught inside the transaction: wrap the code that may fail in its own atomic() block"
    raise StorageError(operation, False, reason)


def _is_broken(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the database will roll the transaction back, or already has, without Django knowing.

    A lost connection does not count, because every later statement fails, and so does the COMMIT.
    """
    if connection.needs_rollback:
        return False
    driver: Any = connection.connection
    if connection.vendor == "postgresql":
        return bool(driver.pgconn.transaction_status == _IN_ERROR)
    # Django sets an isolation level when autocommit is off. The driver then begins a transaction at the first write, so
    # a healthy transaction need not have begun.
    try:
        return not driver.in_transaction and driver.isolation_level is None
    except connection.Database.ProgrammingError:  # type: ignore[attr-defined]
        return False  # a driver that was closed answers no question


def _domain_error(operation: str, failure: Exception) -> EsDjangoError:
    diagnosis = getattr(failure.__cause__, "diag", None)
    if diagnosis is not None and (duplicate := _DUPLICATES.get(diagnosis.constraint_name)):
        return duplicate([UUID(found) for found in _UUID.findall(diagnosis.message_detail or "")])
    reason = diagnosis.message_primary if diagnosis is not None and diagnosis.message_primary else str(failure)
    if diagnosis is not None and (advice := _OUT_OF_ORDER.get(diagnosis.constraint_name)):
        return LogOutOfOrder(operation, False, f"{reason}. {advice}")
    decision = decision_on(failure.__cause__ or failure)
    if decision is not None and decision.remedy:
        reason += f". {decision.remedy}"
    return StorageError(operation, is_retryable(failure), reason)


_IN_ERROR = 3
"""The value of psycopg.pq.TransactionStatus.INERROR. It is not imported, because SQLite projects may lack psycopg."""

_OUT_OF_ORDER = {
    "es_django_event_pkey": "The sequence of positions is behind the table: run manage.py es_verify, which names the "
    "remedy",
    "es_django_event_position_fits": "Positions end at 2^47. Run manage.py es_verify, which looks at the sequence",
}
"""The advice for each constraint that a position violates."""

_CONFLICTS = frozenset({"40001", "40P01"})

_DUPLICATES: dict[str, type[DuplicateEvent] | type[DuplicateMessage]] = {
    "es_django_event_id": DuplicateEvent,
    "es_django_outbox_message_id": DuplicateMessage,
}
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
