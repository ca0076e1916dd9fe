import re
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from testproject.bank.demo import processes
from testproject.bank.demo.processes import DemoFailed, running


def read(log: Path, pattern: str) -> str:
    """Wait until the log matches, and return the first group of the match."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if found := re.search(pattern, log.read_text()):
            return found.group(1)
        time.sleep(0.05)
    raise TimeoutError(log.read_text())


class TestPrograms:
    def test_stubborn_program_is_killed_with_its_children(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(processes, "PATIENCE", 0.2)
        with running("stubborn", ["tests.demo.stubborn"], tmp_path / "log") as process:
            child = psutil.Process(int(read(process.log, r"child (\d+)\n")))
            process.check()
        psutil.wait_procs([child], timeout=30)
        assert not child.is_running()

    def test_program_that_ended_is_reported_with_its_log(self, tmp_path: Path) -> None:
        with running("calculator", ["tests.demo.no_such_module"], tmp_path / "log") as process:
            read(process.log, "(no_such_module)")
            with pytest.raises(DemoFailed, match=r"The calculator ended with exit code 1\.") as failure:
                while True:
                    process.check()
        assert "no_such_module" in failure.value.tail

    def test_ctrl_c_during_a_start_stops_the_program(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        started: list[processes.Process] = []

        class InterruptedAtOnce(processes.Process):
            def __init__(self, name: str, arguments: list[str], log: Path) -> None:
                signal.raise_signal(signal.SIGINT)
                super().__init__(name, arguments, log)
                started.append(self)

        monkeypatch.setattr(processes, "Process", InterruptedAtOnce)
        with pytest.raises(KeyboardInterrupt), running("server", ["http.server", "0"], tmp_path / "log"):
            pytest.fail("the start was not interrupted")
        with pytest.raises(DemoFailed):
            started[0].check()


class TestPort:
    def test_port_in_use_is_replaced_by_a_free_one(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert processes.answers(port)
            assert processes.free_port(port) != port
        assert not processes.answers(port)
        assert processes.free_port(port) == port
