"""A Celery worker of the sample project in processes of its own, which can be killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

import psutil
from django.conf import settings
from django.db import connection


def environment_of_test_database() -> dict[str, str]:
    """The environment in which a process of the sample project uses the database of the running test."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        url = f"sqlite:///{quote(name)}"
    else:
        url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{quote(name)}").geturl()
    return {**os.environ, "DATABASE_URL": url}


class Worker:
    """One worker with two processes and beat. Its log goes to a file in `folder`."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        name = environment["TEST_QUEUE"]
        self.log = folder / "worker.log"
        with self.log.open("ab") as log:
            self._process = psutil.Popen(
                [
                    *(sys.executable, "-m", "celery", "--app", "testproject", "worker"),
                    *("--beat", "--schedule", str(folder / "beat"), "--concurrency", "2", "--hostname", f"{name}@%h"),
                    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
                ],
                cwd=settings.BASE_DIR,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # a process group of its own, to be killed as one
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"The worker's log ends with:\n{self.log.read_text()[-5000:]}")
        self.kill()

    def kill(self) -> None:
        """Kills all of the worker's processes at once, so that none of them can clean up."""
        if not self._process.is_running():
            return
        processes = [self._process, *self._process.children(recursive=True)]
        os.killpg(self._process.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(processes, timeout=10)
        assert not alive

    def wait_until(self, condition: Callable[[], bool], *, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert self._process.poll() is None, "the worker has ended"
            if time.monotonic() > deadline:
                raise TimeoutError(f"not so within {timeout} s")
            time.sleep(0.01)
