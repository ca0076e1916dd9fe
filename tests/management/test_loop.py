"""es_project and es_relay share one loop: signals and a wrong set-up end it, errors of the database do not."""

import os
import time
from collections.abc import Callable
from io import StringIO
from signal import SIG_DFL, SIGINT, SIGTERM, Signals, getsignal
from threading import Timer
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper

from es_django import StorageError
from es_django.errors import UnknownDestination
from es_django.management.commands import es_project, es_relay
from es_django.management.loop import Loop

Run = Callable[..., str]

Work = Callable[..., int]


@pytest.fixture(params=["es_project", "es_relay"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command with `work` in place of its own work, and return its error output."""
    module, name = {"es_project": (es_project, "run_projections"), "es_relay": (es_relay, "relay")}[request.param]

    def run(work: Work, *options: str) -> str:
        monkeypatch.setattr(module, name, work)
        err = StringIO()
        call_command(request.param, *options, stdout=StringIO(), stderr=err)
        return err.getvalue()

    return run


@pytest.mark.django_db
@pytest.mark.parametrize("signal", [SIGTERM, SIGINT])
class TestSignals:
    def test_the_first_signal_lets_the_current_work_end(self, run: Run, signal: Signals) -> None:
        steps: list[str] = []

        def work(*args: Any, **options: Any) -> int:
            steps.append("begin")
            os.kill(os.getpid(), signal)
            steps.append("end")
            return 1

        run(work)
        assert steps == ["begin", "end"]

    def test_a_second_signal_ends_the_process_at_once(self, run: Run, signal: Signals) -> None:
        handlers: list[object] = []

        def work(*args: Any, **options: Any) -> int:
            os.kill(os.getpid(), signal)
            handlers.append(getsignal(signal))
            return 1

        run(work)
        assert handlers == [SIG_DFL]

    def test_a_signal_ends_the_pause(self, run: Run, signal: Signals) -> None:
        started = time.monotonic()

        def work(*args: Any, **options: Any) -> int:
            Timer(0.1, os.kill, [os.getpid(), signal]).start()
            return 0

        run(work, "--interval", "3600")
        assert time.monotonic() - started < 30

    def test_the_handlers_are_restored(self, run: Run, signal: Signals) -> None:
        before = getsignal(signal)

        def work(*args: Any, **options: Any) -> int:
            assert getsignal(signal) != before
            os.kill(os.getpid(), signal)
            return 0

        run(work)
        assert getsignal(signal) == before


@pytest.mark.django_db
class TestErrors:
    def test_work_is_retried_after_a_retryable_error(self, run: Run) -> None:
        results: list[Any] = [StorageError("look", True, "away"), 1]

        def work(*args: Any, **options: Any) -> int:
            result = results.pop(0)
            if isinstance(result, Exception):
                raise result
            os.kill(os.getpid(), SIGTERM)
            return int(result)

        assert "away; retrying in 0.001 s" in run(work, "--interval", "0.001")
        assert results == []

    def test_fault_b8_work_goes_on_after_a_storage_error_that_is_not_retryable(
        self, run: Run, caplog: pytest.LogCaptureFixture
    ) -> None:
        results: list[Any] = [StorageError("look", False, "permission denied"), StorageError("look", False, "gone"), 1]

        def work(*args: Any, **options: Any) -> int:
            result = results.pop(0)
            if isinstance(result, Exception):
                raise result
            os.kill(os.getpid(), SIGTERM)
            return int(result)

        printed = run(work, "--interval", "0.001")
        assert "permission denied; retrying in 0.001 s" in printed
        assert "gone; retrying in 0.002 s" in printed
        assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR", "ERROR"]
        assert results == []

    def test_fault_b8_pauses_after_such_errors_are_bounded(self) -> None:
        loop = Loop(1.0, OutputWrapper(StringIO()))
        assert [loop._seconds(failures) for failures in (0, 1, 2, 6, 7, 10_000)] == [1, 1, 2, 32, 60, 60]
        assert Loop(300.0, OutputWrapper(StringIO()))._seconds(9) == 300

    def test_fault_b8_a_wrong_set_up_ends_the_command_with_a_sentence(self, run: Run) -> None:
        def work(*args: Any, **options: Any) -> int:
            raise UnknownDestination("typo", ["partner\nbank"])

        with pytest.raises(CommandError, match="typo"):
            run(work)
