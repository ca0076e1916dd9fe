"""Simulate a millisecond of network: forward each request after that delay, and each reply at once.

    python -m benchmarks.peers.proxy HOST PORT

HOST may be the folder of PostgreSQL's socket. The proxy prints its port.
"""

import socket
import sys
import time
from threading import Thread

DELAY = 0.001


def main(host: str, port: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    while True:
        client, _ = listener.accept()
        server = _connected(host, port)
        for each in (client, server):
            if each.family == socket.AF_INET:
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Thread(target=_pass_on, args=(client, server, DELAY), daemon=True).start()
        Thread(target=_pass_on, args=(server, client, 0.0), daemon=True).start()


def _connected(host: str, port: str) -> socket.socket:
    if not host.startswith("/"):
        return socket.create_connection((host, int(port)))
    server = socket.socket(socket.AF_UNIX)
    server.connect(f"{host}/.s.PGSQL.{port}")
    return server


def _pass_on(source: socket.socket, target: socket.socket, delay: float) -> None:
    try:
        while data := source.recv(65536):
            if delay:
                time.sleep(delay)
            target.sendall(data)
    except OSError:
        pass
    finally:
        for each in (source, target):
            each.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
