"""Connections to brokers and servers that outlive a batch."""

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import kombu
from django.core.exceptions import ImproperlyConfigured

from es_django.outbox.errors import DestinationUnreachable

ConnectionT = TypeVar("ConnectionT")

SOCKET_TIMEOUT = 30
"""Seconds for a single word of a broker, where nothing shorter is set."""


class PerThread(threading.local, Generic[ConnectionT]):
    """A connection for each thread of each process, since none can be shared; opened on first use."""

    def __init__(self, connect: Callable[[], ConnectionT], close: Callable[[ConnectionT], None]) -> None:
        self._connect = connect
        self._close = close
        self._connection: ConnectionT | None = None
        self._pid = 0

    def get(self) -> ConnectionT:
        """The connection. Raises `DestinationUnreachable` if it cannot be opened."""
        if self._connection is None or self._pid != os.getpid():
            try:
                self._connection = self._connect()
            except Exception as error:
                raise DestinationUnreachable(f"{type(error).__name__}: {error}") from error
            self._pid = os.getpid()
        return self._connection

    def discard(self) -> None:
        """Closes the connection, so that the next use opens a fresh one."""
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            self._close(connection)


class ThreadConnection(PerThread[kombu.Connection]):
    """A connection to a broker. It is closed without a word, since the broker may be what hangs."""

    def __init__(self, connect: Callable[[], kombu.Connection]) -> None:
        super().__init__(lambda: with_channel(opened(connect())), kombu.Connection.collect)


def opened(connection: kombu.Connection) -> kombu.Connection:
    """The connection, opened; fails at once where the broker is down, instead of trying for as long as it takes."""
    return connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)


def with_channel(connection: kombu.Connection) -> kombu.Connection:
    """The connection, connected; Redis is not before it has a channel."""
    _ = connection.default_channel
    return connection


def driver_of(url: str) -> str:
    """The name of the client that kombu uses for a URL. Raises `ImproperlyConfigured` if it is no URL of a broker."""
    try:
        return str(kombu.Connection(url).get_transport_cls().driver_name)
    except (KeyError, TypeError, ValueError, AttributeError):
        # The reason may quote a part of the password.
        raise ImproperlyConfigured(
            "the url is no URL of a broker; what stands for itself in a password, like / or @, must be percent-encoded"
        ) from None
