"""A TCP proxy that can stop responding or cut its connections, as a network can."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Proxy:
    """Listen on `port` of localhost, and forward to `target` if there is one."""

    def __init__(self, target: int | None = None) -> None:
        self._target = target
        self._open: list[socket.socket] = []
        self._clients: list[socket.socket] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._reading = threading.Event()
        self._reading.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thaw()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def freeze(self) -> None:
        """Hold back all responses, and keep the connections open."""
        self._flowing.clear()

    def jam(self) -> None:
        """Stop reading from clients, and hold back all responses."""
        self._reading.clear()
        self.freeze()

    def send(self, data: bytes) -> None:
        """Send data to all clients, as if the target had sent it."""
        for client in self._clients:
            with suppress(OSError):
                client.sendall(data)

    def thaw(self) -> None:
        self._reading.set()
        self._flowing.set()

    def cut(self) -> None:
        """Close all connections."""
        while self._open:
            with suppress(OSError):
                self._open[-1].shutdown(socket.SHUT_RDWR)
            self._open.pop().close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                self._clients.append(client)
                if self._target is not None:
                    server = socket.create_connection(("127.0.0.1", self._target))
                    self._open.append(server)
                    threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                    threading.Thread(target=self._forward, args=(server, client, True), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, responses: bool = False) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                (self._flowing if responses else self._reading).wait()
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
