"""Projections without Celery: run until told to stop, and controlled from the shell."""

import os
import signal
import subprocess
import sys
import time
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from es_django import StorageError, event_store
from es_django.management.commands import es_project
from es_django.models import ProjectionCheckpoint, SkippedEvent
from es_django.models.projections import CheckpointStatus
from es_django.projections import pause, run_projections, wait_for
from testproject.bank.services import open_account
from tests.background import environment_of_test_database
from tests.projections.effects import checkpoint, count, effects, fail_at, let_pauses_end, no_mishap, position_of

pytestmark = pytest.mark.django_db(transaction=True)


def es_project_(*options: str) -> str:
    err = StringIO()
    call_command("es_project", *options, stderr=err)
    return err.getvalue()


def test_once_brings_all_projections_to_the_end() -> None:
    count(1, 2)
    es_project_("--once")
    assert effects() == 2


def test_once_ends_with_an_error_short_of_the_end() -> None:
    count(1, 2)
    fail_at(1)
    with pytest.raises(CommandError, match=f"log: tests.effects is running, and fails at position {position_of(1)}"):
        es_project_("--once")
    ProjectionCheckpoint.objects.filter(name="tests.effects").update(failed_position=None)
    with pytest.raises(CommandError, match=f"log: tests.effects is running, at position 0 of {position_of(2)}"):
        es_project_("--once")
    pause("tests.effects", by="Ada")
    es_project_("--once")


def test_once_goes_on_though_a_long_run_has_applied_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    count(1)
    monkeypatch.setattr(es_project, "LONG_TURN", 0.5)
    turns: list[int] = []

    def run(seconds: float) -> int:
        turns.append(0)
        if len(turns) == 1:
            time.sleep(seconds)  # over events that nobody follows
            return 0
        return run_projections(seconds=60)

    monkeypatch.setattr(es_project, "run_projections", run)
    es_project_("--once")
    assert effects() == 1


def test_it_runs_until_it_is_told_to_stop() -> None:
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


def test_it_survives_a_database_that_is_away_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [StorageError("look", True, "away"), 1]

    def run(**options: Any) -> int:
        answer = answers.pop(0)
        if not answers:
            os.kill(os.getpid(), signal.SIGTERM)
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    monkeypatch.setattr(es_project, "run_projections", run)
    assert "it goes on in a moment" in es_project_("--interval", "0.001")
    assert answers == []


def test_projections_are_paused_resumed_and_made_to_skip() -> None:
    count(1, 2)
    fail_at(1)
    with pytest.raises(CommandError):
        es_project_("--once")
    no_mishap()
    es_project_("--pause", "tests.effects")
    let_pauses_end()
    es_project_("--once")
    assert (checkpoint().status, effects()) == (CheckpointStatus.PAUSED, 0)
    es_project_("--skip", "tests.effects", str(position_of(1)), "--by", "Ada")
    es_project_("--resume", "tests.effects")
    es_project_("--once")
    assert (effects(), SkippedEvent.objects.get().skipped_by) == (1, "Ada")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--resume", "tests.effects"], "cannot be resumed: it is running"),
        (["--pause", "nobody"], "no projection is named 'nobody'"),
        (["--skip", "tests.effects", "first"], "'first' is no position"),
        (["--skip", "tests.effects", "-5"], "'-5' is no position"),
        (["--skip", "tests.effects", "٣"], "'٣' is no position"),
        (["--skip", "tests.effects", "99999999999999999999"], "does not fail there"),
        (["--skip", "nobody", "1"], "no projection is named 'nobody'"),
        (["--pause", "tests.effects", "--by", " "], "argument --by: it names somebody"),
        *[([f"--interval={wrong}"], "more than 0 seconds") for wrong in ("0", "-1", "nan", "inf")],
    ],
)
def test_what_cannot_be_done_is_told(options: list[str], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        es_project_(*options)
