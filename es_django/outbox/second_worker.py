"""A second relay thread: while one thread publishes, the other claims and settles in the database.

For the database, the threads are two separate relays. As between any two relays, claims keep the threads from taking
the same message, and keep the messages of each key in order.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from threading import Event
from types import TracebackType
from typing import Self

from django.db import connections

from es_django import conf
from es_django.store.search_path import search_path, with_search_path

THREAD_NAME = "es_django second relay worker"


class SecondWorker:
    """A context manager that runs `work` in a second thread after `start`. The block ends when both threads have ended.

    `work` receives a function that returns True after the block has raised; then `work` must end. `work` returns the
    number of messages that it published.
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
            # After an error, do not wait for the second thread: its publisher may hang for the same reason.
            self._block_ended.set()

    def start(self) -> None:
        """Start the second thread, unless it has already been started."""
        if self._future is None:
            using = conf.settings().database
            self._future = _threads.submit(copy_context().run, self._run, using, search_path(using))

    def _run(self, using: str, path: str | None) -> int:
        try:
            with with_search_path(using, path):
                return self._work(self._block_ended.is_set)
        finally:
            connections.close_all()


def _one_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=THREAD_NAME)


# The thread outlives the relay, because publishers keep one connection for each thread, which the next run reuses.
_threads = _one_thread()


def _replace_threads() -> None:
    global _threads
    _threads = _one_thread()


# A forked process has no copy of the thread, so it starts a new one.
os.register_at_fork(after_in_child=_replace_threads)
