"""The processes of the demo. The demo always stops them when it ends.

Each process has its own process group, so that Ctrl-C in the terminal reaches only the demo. The demo then sends
SIGTERM to each main process, so that a worker can finish its task and stop its children. After a while it kills the
whole group.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from threading import Event

from django.conf import settings

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 15.0
TAIL = 20


class DemoFailed(Exception):
    """The demo cannot continue. `log` is a file with details."""

    def __init__(self, reason: str, log: Path | None = None) -> None:
        super().__init__(reason)
        self.log = log

    @property
    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL:]) if self.log else ""


class Process:
    """A program that runs for the duration of a `running` block. Its output goes to a log file."""

    def __init__(self, name: str, arguments: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=settings.BASE_DIR,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise `DemoFailed` if the program has ended, `KeyboardInterrupt` after a stop signal."""
        if _to_end.is_set():
            raise KeyboardInterrupt
        returncode = self._process.poll()
        if returncode is not None:
            raise DemoFailed(f"The {self.name} ended with exit code {returncode}.", self.log)

    def stop(self) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        # After a normal exit the process group is empty, so killpg finds no process.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def running(name: str, arguments: list[str], log: Path) -> Iterator[Process]:
    process: Process | None = None
    try:
        with _undisturbed():
            process = Process(name, arguments, log)
        yield process
    finally:
        if process is not None:
            with _undisturbed():
                process.stop()


def worker(log: Path) -> AbstractContextManager[Process]:
    """A Celery worker with beat."""
    arguments = ["celery", "--app", "testproject", "worker", "--beat", "--concurrency", "2", "--loglevel", "INFO"]
    return running("worker", arguments, log)


def server(port: int, log: Path) -> AbstractContextManager[Process]:
    """Django's development server."""
    return running("server", ["django", "runserver", "--noreload", f"127.0.0.1:{port}"], log)


def answers(port: int) -> bool:
    with socket.socket() as connection:
        connection.settimeout(1)
        return connection.connect_ex(("127.0.0.1", port)) == 0


def free_port(preferred: int) -> int:
    """Return the `preferred` port, or a free port if the preferred one is taken."""
    with socket.socket() as probe:
        # Without SO_REUSEADDR, which the server sets too, recently closed connections make a free port look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def stop_signals_interrupt() -> None:
    """Make a closed terminal and a plain `kill` stop the demo as Ctrl-C does, so that no process is left behind."""
    for signum in STOP_SIGNALS:
        signal.signal(signum, _interrupt)


# Python drops a KeyboardInterrupt that is raised while an object is finalized, so a flag records the signal as well.
_to_end = Event()


def _interrupt(signum: int, frame: object) -> None:
    _to_end.set()
    raise KeyboardInterrupt


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Delay Ctrl-C until the end of the block, because an interrupt inside it would leave a process running."""
    came: list[int] = []
    handlers = {signum: signal.signal(signum, lambda signum, frame: came.append(signum)) for signum in STOP_SIGNALS}
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
    if came:
        raise KeyboardInterrupt
