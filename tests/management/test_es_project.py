"""manage.py es_project"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from es_django import event_store
from es_django.management.commands import es_project
from es_django.models import CheckpointStatus, ProjectionCheckpoint, SkippedEvent
from es_django.projections import pause, run_projections, wait_for
from testproject.bank.services import open_account
from tests.background import environment_of_test_database
from tests.projections.effects import checkpoint, count, effects, fail_at, let_pauses_end, no_mishap, position_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _no_mishap() -> Iterator[None]:
    yield
    no_mishap()


def run(*options: str) -> str:
    err = StringIO()
    call_command("es_project", *options, stderr=err)
    return err.getvalue()


class TestOnce:
    def test_all_projections_catch_up(self) -> None:
        count(1, 2)
        run("--once")
        assert effects() == 2

    def test_a_projection_behind_the_end_of_the_log_is_an_error(self) -> None:
        count(1, 2)
        fail_at(1)
        with pytest.raises(CommandError, match=f"log: tests.effects is running and fails at position {position_of(1)}"):
            run("--once")
        ProjectionCheckpoint.objects.filter(name="tests.effects").update(failed_position=None)
        with pytest.raises(CommandError, match=f"log: tests.effects is running at position 0 of {position_of(2)}"):
            run("--once")
        pause("tests.effects", by="Ada")
        run("--once")

    def test_the_command_continues_past_many_events_without_a_projection(self, monkeypatch: pytest.MonkeyPatch) -> None:
        count(1)
        monkeypatch.setattr(es_project, "LONG_TURN", 0.5)
        turns: list[int] = []

        def run_slowly(seconds: float) -> int:
            turns.append(0)
            if len(turns) == 1:
                time.sleep(seconds)  # also advances past events that no projection follows
                return 0
            return run_projections(seconds=60)

        monkeypatch.setattr(es_project, "run_projections", run_slowly)
        run("--once")
        assert effects() == 1


class TestRun:
    def test_projections_run_until_sigterm(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "es_project", "--interval", "0.05"],
            cwd=settings.BASE_DIR,
            env=environment_of_test_database(),
        )
        try:
            for number in range(2):
                open_account(f"a-{number}", owner="Ada")
                wait_for("statements", event_store.read_all().position, 60)
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()


class TestOperations:
    def test_projections_are_paused_resumed_and_skip_an_event(self) -> None:
        count(1, 2)
        fail_at(1)
        with pytest.raises(CommandError):
            run("--once")
        no_mishap()
        run("--pause", "tests.effects")
        let_pauses_end()
        run("--once")
        assert (checkpoint().status, effects()) == (CheckpointStatus.PAUSED, 0)
        run("--skip", "tests.effects", str(position_of(1)), "--by", "Ada")
        run("--resume", "tests.effects")
        run("--once")
        assert (effects(), SkippedEvent.objects.get().skipped_by) == (1, "Ada")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--resume", "tests.effects"], "cannot be resumed: it is running"),
            (["--pause", "nobody"], "no projection is named 'nobody'"),
            (["--skip", "tests.effects", "first"], "'first' is not a position"),
            (["--skip", "tests.effects", "-5"], "'-5' is not a position"),
            (["--skip", "tests.effects", "٣"], "'٣' is not a position"),
            (["--skip", "tests.effects", "99999999999999999999"], "does not fail there"),
            (["--skip", "nobody", "1"], "no projection is named 'nobody'"),
            (["--pause", "tests.effects", "--by", " "], "argument --by: name a person"),
            *[([f"--interval={wrong}"], "more than 0 seconds") for wrong in ("0", "-1", "nan", "inf")],
        ],
    )
    def test_an_impossible_operation_is_an_error(self, options: list[str], message: str) -> None:
        with pytest.raises(CommandError, match=message):
            run(*options)
