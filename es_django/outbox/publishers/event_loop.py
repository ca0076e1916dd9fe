"""An event loop in a thread of its own, for client libraries that have only an asynchronous interface."""

import asyncio
import os
import sys
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured

ResultT = TypeVar("ResultT")


class _LoopThread:
    """A thread that starts on first use and runs an event loop."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="es_django event loop", daemon=True).start()
            return self._loop


_thread = _LoopThread()


def _replace_thread() -> None:
    global _thread
    _thread = _LoopThread()


# A forked process has no copy of the thread, so it starts a new one.
os.register_at_fork(after_in_child=_replace_thread)


def require_real_threads(user: str) -> None:
    """Raise `ImproperlyConfigured` if gevent or eventlet has replaced the threads of this process.

    Their threads are greenlets of one thread. Django would see the running loop in each of them, and refuse every
    query of the process.
    """
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if (gevent and gevent.is_module_patched("threading")) or (eventlet and eventlet.is_monkey_patched("thread")):
        raise ImproperlyConfigured(
            f"{user} needs an event loop, so it does not work in a worker of the pools gevent and eventlet: run the "
            "relay in a worker of another pool, or with manage.py es_relay"
        )


def run(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine in the event loop, and return its result. If the caller is interrupted, cancel the coroutine."""
    future = asyncio.run_coroutine_threadsafe(coroutine, _thread.loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
