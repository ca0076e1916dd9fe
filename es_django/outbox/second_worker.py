"""A second relay thread: while one thread publishes, the database claims and settles for the other.

To the database they are two relays. Their claims keep them apart, and keep the order of each key, as with any two.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from threading import Event
from types import TracebackType
from typing import Self

from django.db import connections

THREAD_NAME = "es_django second relay worker"


class SecondWorker:
    """Does the same work in a second thread, once it is started. The block ends when both threads have ended.

    `work` gets a function that returns True when the block has failed: the work must end then, too. It returns how many
    messages it published.
    """

    def __init__(self, work: Callable[[Callable[[], bool]], int]) -> None:
        self.published: int = 0
        self._work = work
        self._block_ended = Event()
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
            # After an error the block does not wait for the thread, whose publisher may hang for the same reason.
            self._block_ended.set()

    def start(self) -> None:
        """Start the thread, unless it was started before."""
        if self._future is None:
            self._future = _threads.submit(copy_context().run, self._run)

    def _run(self) -> int:
        try:
            return self._work(self._block_ended.is_set)
        finally:
            connections.close_all()


def _one_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=THREAD_NAME)


# The thread outlives the relay, since publishers keep one connection for each thread.
_threads = _one_thread()


def _replace_threads() -> None:
    global _threads
    _threads = _one_thread()


# Threads do not survive a fork.
os.register_at_fork(after_in_child=_replace_threads)
