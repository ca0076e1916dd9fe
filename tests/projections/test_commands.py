"""Projections without Celery: run until told to stop, and controlled from the shell."""

import logging
import os
import signal
import subprocess
import sys
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from es_django import StorageError, event_store
from es_django.management.commands import es_project
from es_django.models import ProjectionCheckpoint, SkippedEvent
from es_django.projections import wait_for
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
    es_project_("--once")
    no_mishap()
    es_project_("--pause", "tests.effects")
    let_pauses_end()
    es_project_("--once")
    assert (checkpoint().status, effects()) == (ProjectionCheckpoint.Status.PAUSED, 0)
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
        (["--pause", "tests.effects", "--by", " "], "--by names somebody"),
        *[([f"--interval={wrong}"], "more than 0 seconds") for wrong in ("0", "-1", "nan", "inf")],
    ],
)
def test_what_cannot_be_done_is_told(options: list[str], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        es_project_(*options)


def test_who_has_no_name_is_told_by_number(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("es_django.management.arguments.getuser", nameless)
    caplog.set_level(logging.INFO, "es_django.projections")
    es_project_("--pause", "tests.effects")
    assert caplog.messages == [f"projection tests.effects was paused by user {os.getuid()}"]
