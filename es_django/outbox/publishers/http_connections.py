"""Connections of the HTTP client: to addresses that are chosen here, and with one deadline for a whole request.

httpcore limits each single read and write, so a server that sends byte by byte would never time out. Here, every
`timeout` that httpcore passes on is a deadline, a time of `time.monotonic()`.
"""

import ssl
import time
from collections.abc import Callable, Iterable

from httpcore import SOCKET_OPTION, ConnectError, ConnectTimeout, NetworkStream, SyncBackend

SHORTEST = 0.001
"""The time for an operation that begins after its deadline. A socket with a timeout of 0 would not wait at all."""


class Connector(SyncBackend):
    """Connects to the first address of `addresses_of(host)` that answers within `patience` seconds."""

    def __init__(self, addresses_of: Callable[[str], Iterable[str]], patience: float) -> None:
        self._addresses_of = addresses_of
        self._patience = patience

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        failure: Exception = ConnectError("the host name has no address")
        for address in self._addresses_of(host):
            patience = min(self._patience, _left(timeout) or self._patience)
            try:
                return _Stream(super().connect_tcp(address, port, patience, local_address, socket_options))
            except (ConnectError, ConnectTimeout) as error:
                failure = error
        raise failure


class _Stream(NetworkStream):
    def __init__(self, stream: NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _left(timeout)))

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), SHORTEST)
