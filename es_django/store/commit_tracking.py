"""Whether what was written in a transaction has been committed."""

import weakref
from typing import Any

from django.db import connections, transaction


class CommitTracker:
    """Tells whether the transaction, or savepoint, that was open at its making has been committed.

    Django calls an `on_commit` callback after the commit and drops it on a rollback, of a savepoint too; so a callback
    that is gone without having been called belonged to a rollback.
    """

    def __init__(self, using: str) -> None:
        self._committed = False

        def note_commit() -> None:
            self._committed = True

        self._callback = weakref.ref(note_commit)
        transaction.on_commit(note_commit, using=using)
        _put_first(connections[using])

    def __call__(self) -> bool | None:
        if self._committed:
            return True
        return False if self._callback() is None else None


def _put_first(connection: Any) -> None:
    """Moves the last callback before the others: one that fails makes Django drop those behind it."""
    # Nothing commits around a TestCase, and captureOnCommitCallbacks takes what stands behind what it found.
    if not any(block._from_testcase for block in connection.atomic_blocks):
        connection.run_on_commit.insert(0, connection.run_on_commit.pop())
