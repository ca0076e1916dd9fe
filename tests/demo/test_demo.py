"""Run the real demo command, which starts other processes. Each test checks that none of these processes is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from urllib.request import urlopen

import psutil
import pytest
from django.conf import settings

TIMEOUT = 120
AGREES = "Everything agrees."
DISAGREES = "Some values differ."


@contextmanager
def started(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start `manage.py`. At the end of the block, the command and all processes that it started must have ended."""
    mark = os.urandom(8).hex()
    with subprocess.Popen(
        [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments],
        env={**environment, "STARTED_BY_TEST": mark},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        watchdog = Timer(TIMEOUT, process.kill)
        watchdog.start()
        try:
            yield process
            process.wait(TIMEOUT)
            assert marked(mark) == []
        finally:
            watchdog.cancel()
            for each in marked(mark):
                each.kill()


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes with this mark in their environment, whatever their parent process is by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("STARTED_BY_TEST") == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def manage(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Run `manage.py` to its end, and return its exit code and its output."""
    with started(environment, *arguments) as process:
        output, _ = process.communicate(timeout=TIMEOUT)
    return process.returncode, output


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Read the output up to the line that contains `text`, and return the output."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return line
    pytest.fail(f"the demo ended before it said {text!r}:\n{''.join(lines)}")


def worker_of(process: subprocess.Popen[str]) -> psutil.Process:
    """Return the main process of the Celery worker."""
    (worker,) = psutil.Process(process.pid).children()
    return worker


SMALL = ["demo", "--no-serve", "--accounts", "5", "--operations", "40"]
LONG = ["demo", "--no-serve", "--operations", "100000"]
ONLY_THE_TABLE = ["demo", "--no-serve", "--accounts", "2", "--operations", "0"]


LEFT_BY_A_KILLED_RUN = """
from celery import current_app
from es_django.models import InboxReceipt
from testproject.bank.models import LedgerEntry

lost = LedgerEntry.objects.first()
InboxReceipt.objects.get(message_id=str(lost.message_id)).delete()
lost.delete()
data = {"account": "of-another-database", "amount": "1.00"}
current_app.send_task("es_django.handle_message", [{"type": "bank.money_moved", "data": data}])
"""


class TestRun:
    def test_all_values_agree_and_each_step_is_reported_once(self, environment: dict[str, str]) -> None:
        exit_code, output = manage(environment, *SMALL)
        assert exit_code == 0, output
        assert AGREES in output
        # these lines update in place in a terminal
        assert "\x1b" not in output
        for text in (
            "Accounts opened",
            "Operations",
            "Published by",
            "Handled by",
            "Projected to",
            "entries in the ledger",
        ):
            assert output.count(text) == 1

    def test_demo_exits_with_1_if_an_effect_is_missing(self, environment: dict[str, str]) -> None:
        manage(environment, *SMALL)
        lose = "from testproject.bank.models import LedgerEntry; LedgerEntry.objects.first().delete()"
        manage(environment, "shell", "--command", lose)
        exit_code, output = manage(environment, *ONLY_THE_TABLE)
        assert exit_code == 1, output
        assert DISAGREES in output
        assert output.count("DIFFERS") == 2  # the number of entries, and the money in them

    def test_run_after_a_killed_run_agrees(self, environment: dict[str, str]) -> None:
        manage(environment, *SMALL)
        exit_code, output = manage(environment, "shell", "--command", LEFT_BY_A_KILLED_RUN)
        assert exit_code == 0, output
        exit_code, output = manage(environment, *ONLY_THE_TABLE)
        assert exit_code == 0, output
        assert AGREES in output

    def test_demo_without_debug_is_refused(self, environment: dict[str, str]) -> None:
        exit_code, output = manage({**environment, "DEBUG": "0", "SECRET_KEY": "secret"}, *SMALL)
        assert exit_code == 1
        assert "DEBUG" in output


class TestServer:
    def test_admin_is_served_until_ctrl_c(self, environment: dict[str, str]) -> None:
        with started(environment, "demo", "--accounts", "2", "--operations", "5") as process:
            address = wait_for(process, "The admin is at").split()[-1]
            wait_for(process, "Ctrl-C stops everything")
            with urlopen(address, timeout=30) as response:
                assert b"Django administration" in response.read()
            process.send_signal(signal.SIGINT)
        assert process.returncode == 0


class TestStop:
    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_ctrl_c_stops_a_run(self, signum: signal.Signals, environment: dict[str, str]) -> None:
        with started(environment, *LONG) as process:
            wait_for(process, "Worker")
            process.send_signal(signum)
            wait_for(process, "Stopped.")
        assert process.returncode == 130

    def test_dead_worker_ends_the_run(self, environment: dict[str, str]) -> None:
        with started(environment, *LONG) as process:
            wait_for(process, "Worker")
            worker_of(process).kill()
            wait_for(process, "The worker ended with exit code -9.")
            wait_for(process, "worker.log")
        assert process.returncode == 1

    def test_worker_that_cannot_start_shows_its_log(self, environment: dict[str, str]) -> None:
        exit_code, output = manage({**environment, "CELERY_BROKER_URL": "nonsense://"}, *LONG)
        assert exit_code == 1
        assert "The worker ended with exit code 1." in output
        assert "nonsense" in output
