"""Connections to brokers and servers that stay open between batches."""

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import kombu
from django.core.exceptions import ImproperlyConfigured

from es_django.outbox.errors import DestinationUnreachable

ConnectionT = TypeVar("ConnectionT")

SOCKET_TIMEOUT = 30
"""Seconds to wait for any single read or write, unless a shorter timeout is set."""


class PerThread(threading.local, Generic[ConnectionT]):
    """A connection for each thread of each process, opened on first use, because connections cannot be shared."""

    def __init__(self, connect: Callable[[], ConnectionT], close: Callable[[ConnectionT], None]) -> None:
        self._connect = connect
        self._close = close
        self._connection: ConnectionT | None = None
        self._pid = 0

    def get(self) -> ConnectionT:
        """Return the connection. Raises `DestinationUnreachable` if it cannot be opened."""
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
    """A connection to a broker. It is closed without notice to the broker, which may not respond."""

    def __init__(self, connect: Callable[[], kombu.Connection]) -> None:
        super().__init__(lambda: open_channel(open_connection(connect())), kombu.Connection.collect)


def open_connection(connection: kombu.Connection) -> kombu.Connection:
    """Open the connection and return it. Fail at once if the broker is down, where kombu would retry for ever."""
    return connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)


def open_channel(connection: kombu.Connection) -> kombu.Connection:
    """Open the default channel of a connection and return the connection. Redis connects only now."""
    _ = connection.default_channel
    return connection


def driver_of(url: str) -> str:
    """Return the name of kombu's driver for a broker URL. Raises `ImproperlyConfigured` if the URL is invalid."""
    try:
        return str(kombu.Connection(url).get_transport_cls().driver_name)
    except (KeyError, TypeError, ValueError, AttributeError):
        # The original error may quote a part of the password.
        raise ImproperlyConfigured(
            "the option url must be the URL of a broker, with characters like / or @ in the password percent-encoded"
        ) from None
