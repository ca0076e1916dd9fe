"""A second thread beside that of the relay: while one publishes, the database claims and settles for the other.

To the database they are two relays, and the claims keep them apart as they do any two, in the order of each key too.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from threading import Event
from types import TracebackType
from typing import Self

from django.db import connections

NAME = "es_django relay companion"


class Companion:
    """Does the same work in another thread, once it is called; the block ends when both have ended.

    The work is given a function that tells whether the block has failed, which means that it shall end as well.
    """

    def __init__(self, work: Callable[[Callable[[], bool]], int]) -> None:
        self.published: int = 0
        self._work = work
        self._is_alone = Event()
        self._future: Future[int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._future is not None and not self._future.cancel():
                self.published = self._future.result()
        finally:
            # After an error it is not waited for, since a publisher that hangs may be the error.
            self._is_alone.set()

    def call(self) -> None:
        if self._future is None:
            self._future = _threads.submit(copy_context().run, self._run)

    def _run(self) -> int:
        try:
            return self._work(self._is_alone.is_set)
        finally:
            connections.close_all()


def _one_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=NAME)


# One that stays, since publishers keep a connection for each thread.
_threads = _one_thread()


def _forget() -> None:
    global _threads
    _threads = _one_thread()


# Threads do not survive a fork.
os.register_at_fork(after_in_child=_forget)
