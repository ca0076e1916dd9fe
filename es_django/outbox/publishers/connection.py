"""Broker connections that outlive a batch."""

import os
import threading
from collections.abc import Callable

import kombu


class ThreadConnection(threading.local):
    """A connection for each thread of each process, since none can be shared; opened on first use."""

    def __init__(self, connect: Callable[[], kombu.Connection]) -> None:
        self._connect = connect
        self._connection: kombu.Connection | None = None
        self._pid = 0

    def get(self) -> kombu.Connection:
        if self._connection is None or self._pid != os.getpid():
            self._connection = self._connect()
            # Fails at once where the broker is down, instead of trying for as long as it takes.
            self._connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            self._pid = os.getpid()
        return self._connection

    def discard(self) -> None:
        """Closes the connection, so that the next use opens a fresh one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
