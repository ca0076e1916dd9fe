"""A TCP proxy that cuts connections."""

import selectors
import socket
import socketserver
import struct
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

AT_ONCE = struct.pack("ii", 1, 0)
"""For SO_LINGER: a close discards unsent data and resets the connection."""


class CuttingProxy(socketserver.ThreadingTCPServer):
    """Forward connections from its `port` to the port `target`.

    Reset the n-th connection on both sides when the client has sent `cuts[n]` bytes. Later connections are not cut.
    """

    allow_reuse_address = True

    def __init__(self, target: int, *, port: int = 0, cuts: Sequence[int] = ()) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.port: int = self.server_address[1]
        self.target = target
        self.budgets = list(cuts)
        self.cut = 0
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Connection(socketserver.BaseRequestHandler):
    server: CuttingProxy
    request: socket.socket

    def handle(self) -> None:
        budget = self.server.budgets.pop(0) if self.server.budgets else None
        with socket.create_connection(("127.0.0.1", self.server.target)) as target:
            if self._forward(self.request, target, budget):
                self.server.cut += 1
                for side in (self.request, target):
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            self.request.close()

    def _forward(self, client: socket.socket, target: socket.socket, budget: int | None) -> bool:
        """Forward data until one side closes (return False), or the client has sent `budget` bytes (return True)."""
        with selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, target)
            ready.register(target, selectors.EVENT_READ, client)
            while True:
                for key, _ in ready.select():
                    side, other = client if key.data is target else target, key.data
                    try:
                        data = side.recv(4096)
                        other.sendall(data)
                    except OSError:
                        return False
                    if not data:
                        return False
                    if side is client and budget is not None:
                        budget -= len(data)
                        if budget <= 0:
                            return True
