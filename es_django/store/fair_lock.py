"""A lock among threads that is granted in order of arrival.

A plain mutex wakes whom it likes; here each who waits holds a ticket, and whoever leaves calls the next one.
"""

import threading
from collections import deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary


class FairLock:
    """Use `held`; a thread that has the lock may take it again."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._tickets: deque[threading.Event] = deque()
        self._owner: int | None = None

    @contextmanager
    def held(self, timeout: float | None) -> Iterator[bool]:
        """Yields whether the lock was granted within `timeout` seconds."""
        me = threading.get_ident()
        if self._owner == me:
            yield True
            return
        granted = self._acquire(timeout)
        if not granted:
            yield False
            return
        self._owner = me
        try:
            yield True
        finally:
            self._owner = None
            self._release()

    @property
    def waiting(self) -> int:
        """How many hold a ticket, the one that was called included."""
        return len(self._tickets)

    def _acquire(self, timeout: float | None) -> bool:
        ticket = threading.Event()
        with self._mutex:
            self._tickets.append(ticket)
            if self._tickets[0] is ticket:
                ticket.set()
        try:
            if ticket.wait(timeout):
                return True
        except BaseException:
            # A signal, such as that of a task's time limit, interrupts the wait.
            with self._mutex:
                self._withdraw(ticket)
            raise
        with self._mutex:
            if ticket.is_set():
                return True
            self._withdraw(ticket)
            return False

    def _release(self) -> None:
        with self._mutex:
            self._withdraw(self._tickets[0])

    def _withdraw(self, ticket: threading.Event) -> None:
        self._tickets.remove(ticket)
        if self._tickets:
            self._tickets[0].set()


_locks: WeakValueDictionary[Hashable, FairLock] = WeakValueDictionary()
_locks_mutex = threading.Lock()


def fair_lock(name: Hashable) -> FairLock:
    """The lock of that name; it lives as long as somebody holds on to it."""
    with _locks_mutex:
        lock = _locks.get(name)
        if lock is None:
            lock = _locks[name] = FairLock()
        return lock
