"""Connections to brokers and servers, one for each thread, which stay open between batches."""

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import kombu
from django.core.exceptions import ImproperlyConfigured

from es_django.outbox.errors import DestinationUnreachable

ConnectionT = TypeVar("ConnectionT")

SOCKET_TIMEOUT = 30
"""The longest wait for a single read or write, in seconds, unless a shorter timeout is set."""


class PerThread(threading.local, Generic[ConnectionT]):
    """One connection for each thread of each process, because connections cannot be shared. Opened on first use."""

    def __init__(self, connect: Callable[[], ConnectionT], close: Callable[[ConnectionT], None]) -> None:
        self._connect = connect
        self._close = close
        self._connection: ConnectionT | None = None
        self._pid = 0

    def get(self) -> ConnectionT:
        """Return the connection. Raise `DestinationUnreachable` if it cannot be opened."""
        if self._connection is None or self._pid != os.getpid():
            try:
                self._connection = self._connect()
            except Exception as error:
                raise DestinationUnreachable(f"{type(error).__name__}: {error}") from error
            self._pid = os.getpid()
        return self._connection

    def discard(self) -> None:
        """Close the connection. The next use opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            self._close(connection)


class BrokerPerThread(PerThread[kombu.Connection]):
    """A connection to a broker. `discard` closes only the socket: a close that waits for the broker could hang."""

    def __init__(self, connect: Callable[[], kombu.Connection]) -> None:
        super().__init__(lambda: open_channel(open_connection(connect())), kombu.Connection.collect)


def open_connection(connection: kombu.Connection) -> kombu.Connection:
    """Open the connection and return it. If the broker is down, fail at once; by default kombu retries for ever."""
    return connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)


def open_channel(connection: kombu.Connection) -> kombu.Connection:
    """Open the default channel of a connection, and return the connection. With Redis, kombu connects only here."""
    _ = connection.default_channel
    return connection


def driver_of(url: str) -> str:
    """Return the name of kombu's driver for a broker URL. Raise `ImproperlyConfigured` if the URL is invalid."""
    try:
        return str(kombu.Connection(url).get_transport_cls().driver_name)
    except (KeyError, TypeError, ValueError, AttributeError):
        # `from None`, because the original error may quote a part of the password.
        raise ImproperlyConfigured(
            "the option url must be the URL of a broker; percent-encode characters such as / and @ in the password"
        ) from None
