"""Find out whether a transaction was committed, so that stored changes are never mistaken for lost changes."""

import weakref
from types import TracebackType
from typing import Any, Final

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

AFTER_COMMIT: Final = "An on_commit callback raised this error after the commit. The changes are stored."
"""The note that `tracked_atomic` adds to an error."""


class CommitTracker:
    """A callable that reports how the transaction or savepoint in which it was created has ended.

    A call returns True after the commit, False after a rollback, and None while the transaction is open.

    Django calls an `on_commit` callback after the commit, and drops it after a rollback of the transaction or the
    savepoint. So if the callback was never called and no longer exists, a rollback has happened.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._committed = False

        def note_commit() -> None:
            self._committed = True

        self._callback = weakref.ref(note_commit)
        connection.on_commit(note_commit)
        _put_first(connection)

    def __call__(self) -> bool | None:
        if self._committed:
            return True
        return False if self._callback() is None else None


class tracked_atomic(transaction.Atomic):
    """`transaction.atomic()` that adds the note AFTER_COMMIT to an error of an on_commit callback.

    Django runs these callbacks while it leaves the block. Without the note, their errors look like a failed COMMIT.
    """

    def __init__(self, connection: BaseDatabaseWrapper, *, durable: bool = False) -> None:
        super().__init__(connection.alias, True, durable)
        self._connection = connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, tracker = self._connection, None
        # Only the outermost block commits. An error after its commit can only come from a callback.
        if connection.run_on_commit and len(connection.atomic_blocks) == 1:
            tracker = CommitTracker(connection)
        try:
            super().__exit__(kind, error, trace)
        except BaseException as failure:
            if tracker is not None and tracker():
                failure.add_note(AFTER_COMMIT)
            raise


def is_after_commit(error: BaseException) -> bool:
    """Return whether an on_commit callback raised the error, so that the changes of the transaction are stored."""
    return AFTER_COMMIT in getattr(error, "__notes__", ())


def _put_first(connection: Any) -> None:
    """Move the last callback to the front, because Django drops all callbacks after one that fails."""
    # In a TestCase the callback stays last: nothing commits, and captureOnCommitCallbacks() expects new callbacks at
    # the end.
    if not any(block._from_testcase for block in connection.atomic_blocks):
        connection.run_on_commit.insert(0, connection.run_on_commit.pop())
