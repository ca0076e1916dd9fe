"""HTTP endpoints to which tests send webhooks."""

import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self


class Request(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes
    client: tuple[str, int]


Respond = Callable[["Handler", Request], None]


class Handler(BaseHTTPRequestHandler):
    """Record the request, and respond with the endpoint's function."""

    protocol_version = "HTTP/1.1"
    server: "Endpoint"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.path, headers, body, self.client_address)
        self.server.requests.append(request)
        self.server.respond(self, request)

    do_GET = do_POST

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Endpoint(ThreadingHTTPServer):
    """Run an HTTP server in a thread. `requests` is the list of received requests. A test may replace `respond`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> None:
        super().__init__((address, 0), Handler)
        self.requests: list[Request] = []
        self.respond: Respond = lambda handler, request: handler.reply(204)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"http://{address}:{self.server_port}/hooks"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        pass
