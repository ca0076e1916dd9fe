"""Run a process of the sample project beside a test. The test can kill the process at any time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

import psutil
from django.conf import settings
from django.db import connection


def environment_of_test_database() -> dict[str, str]:
    """Return environment variables that connect a process of the sample project to the database of the running test."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        url = f"sqlite:///{quote(name)}"
    else:
        url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{quote(name)}").geturl()
    return {**os.environ, "DATABASE_URL": url}


class Background:
    """Run Python with `arguments` in its own process group. Its output goes to the file `log`."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as file:
            self._process = psutil.Popen(
                [sys.executable, *arguments],
                cwd=settings.BASE_DIR,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                # Its own process group can be killed as a whole.
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"The log of the process ends with:\n{self.log.read_text()[-5000:]}")
        self.kill()

    def kill(self) -> None:
        """Kill the process and its child processes at once, so that none of them can clean up."""
        if not self._process.is_running():
            return
        processes = [self._process, *self._process.children(recursive=True)]
        os.killpg(self._process.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(processes, timeout=10)
        assert not alive

    def is_idle(self) -> bool:
        """Return whether the process used no processor time for 0.3 seconds."""
        used = self._process.cpu_times()
        time.sleep(0.3)
        return bool(self._process.cpu_times() == used)

    def terminate(self) -> None:
        """Ask the process to end, and return without waiting for its end."""
        self._process.terminate()

    def exit_code(self, *, timeout: float) -> int:
        """Wait for the end of the process."""
        return int(self._process.wait(timeout))

    def wait_until(self, condition: Callable[[], bool], *, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert self._process.poll() is None, "the process has ended"
            if time.monotonic() > deadline:
                raise TimeoutError(f"the condition did not hold within {timeout} s")
            time.sleep(0.01)
