"""Run a real PgBouncer before the PostgreSQL of the tests, and send Django's connection through it."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import connection

CONFIGURATION = """
[databases]
* = host={host} port={port} user={user} {password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
server_reset_query =
logfile = {folder}/log
ignore_startup_parameters = extra_float_digits
"""

USER = "nobody"
"""PgBouncer refuses to run as root. If the tests run as root, PgBouncer runs as this user."""


@contextmanager
def pgbouncer(mode: str, *, size: int = 1) -> Iterator[int]:
    """Run PgBouncer with this pool mode, and yield its port. At most `size` server connections serve all clients."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    assert program is not None, "PgBouncer is not installed: apt-get install pgbouncer"
    with tempfile.TemporaryDirectory(prefix="es-pgbouncer-") as name:
        folder, listen = Path(name), _free_port()
        file = folder / "pgbouncer.ini"
        file.write_text(CONFIGURATION.format(**_server(), listen=listen, mode=mode, size=size, folder=folder))
        user = _owner_of_socket() if os.geteuid() == 0 else None
        if user is not None:
            for path in (folder, file):
                shutil.chown(path, user)
        process = subprocess.Popen([program, "-q", str(file)], user=user, stderr=subprocess.DEVNULL)
        try:
            _wait_until_it_answers(process, listen, folder / "log")
            yield listen
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def connected_through(port: int) -> Iterator[None]:
    """Send the connection of this thread through the PgBouncer on `port`."""
    settings: dict[str, Any] = connection.settings_dict
    before = settings["HOST"], settings["PORT"]
    connection.close()
    settings.update(HOST="127.0.0.1", PORT=str(port))
    try:
        yield
    finally:
        connection.close()
        settings.update(HOST=before[0], PORT=before[1])


def _server() -> dict[str, str]:
    connection.ensure_connection()
    info = connection.connection.info
    password = f"password={info.password}" if info.password else ""
    return {"host": info.host, "port": str(info.port), "user": info.user, "password": password}


def _owner_of_socket() -> str | int:
    """Return a user who may use the server's socket: its owner, unless root owns it or the server uses TCP."""
    host = Path(connection.connection.info.host)
    return (host.stat().st_uid if host.is_absolute() else 0) or USER


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            said = log.read_text() if log.exists() else "nothing"
            assert process.poll() is None, f"PgBouncer ended: {said}"
            assert time.monotonic() < deadline, f"PgBouncer does not answer: {said}"
            time.sleep(0.02)
        else:
            return
