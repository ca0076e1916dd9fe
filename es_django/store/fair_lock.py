"""A lock between threads that is granted in order of arrival.

`threading.Lock` may wake any waiting thread. Here each waiting thread holds a ticket, and a thread that releases the
lock calls the next ticket.
"""

import threading
from collections import deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary


class FairLock:
    """Take the lock with `held`. A thread that holds the lock may take it again."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._tickets: deque[threading.Event] = deque()
        self._owner: int | None = None

    @contextmanager
    def held(self, timeout: float | None) -> Iterator[bool]:
        """Wait up to `timeout` seconds, or without limit if None. Yield whether the lock was granted."""
        thread = threading.get_ident()
        if self._owner == thread:
            yield True
            return
        granted = self._acquire(timeout)
        if not granted:
            yield False
            return
        self._owner = thread
        try:
            yield True
        finally:
            self._owner = None
            self._release()

    @property
    def waiting(self) -> int:
        """The number of tickets, including the holder's."""
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
            # A signal handler may raise an error during the wait, such as the error of a task's time limit.
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
    """Return the lock of this name. The lock exists as long as a caller keeps a reference to it."""
    with _locks_mutex:
        lock = _locks.get(name)
        if lock is None:
            lock = _locks[name] = FairLock()
        return lock
