"""A TCP proxy that can stop answering, or cut its connections, as a network can."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Proxy:
    """Listens on `port` of localhost and forwards to `target`, if there is one."""

    def __init__(self, target: int | None = None) -> None:
        self._target = target
        self._open: list[socket.socket] = []
        self._clients: list[socket.socket] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._heard = threading.Event()
        self._heard.set()
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
        """Lets no answers through any more, and keeps the connections open."""
        self._flowing.clear()

    def jam(self) -> None:
        """Takes nothing any more, and lets no answers through."""
        self._heard.clear()
        self.freeze()

    def tell(self, words: bytes) -> None:
        """Says something to all clients, as if the target had."""
        for client in self._clients:
            with suppress(OSError):
                client.sendall(words)

    def thaw(self) -> None:
        self._heard.set()
        self._flowing.set()

    def cut(self) -> None:
        """Closes all connections."""
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

    def _forward(self, source: socket.socket, sink: socket.socket, answers: bool = False) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                (self._flowing if answers else self._heard).wait()
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
