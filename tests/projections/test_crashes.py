"""Killed runners repeat nothing and lose nothing, and only one of two concurrent runners applies an event."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from types import FrameType
from typing import Any

import pytest

from es_django import Projection, RecordedEvent, event_store, projects
from es_django.models import InboxReceipt
from es_django.projections import run_projection, run_projections, start_rebuild
from tests.processes import run_processes
from tests.projections.effects import Counted, Effects, checkpoint, count, effects, stored_effects

pytestmark = pytest.mark.django_db(transaction=True)

KILLS = 20
NEW_EVENTS = 8


def in_a_process_that_dies(run: Callable[[], object]) -> None:
    """Call `run` in a new process. Kill the process at the end of the block, if not before."""
    from django.db import connections

    connections.close_all()  # a forked process would share the database connections
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        return
    try:
        run()
    finally:
        die()


def die(*args: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_somewhere(run: Callable[[], object]) -> None:
    """Call `run` in a new process. Kill the process at a random function call, or at its end."""

    def perhaps_die(frame: FrameType, event: str, argument: Any) -> None:
        if random.random() < 1 / 2000:
            die()

    def run_dangerously() -> None:
        random.seed()
        sys.setprofile(perhaps_die)
        run()

    in_a_process_that_dies(run_dangerously)


def finish() -> None:
    """Run the projection to the end of the log. Retry, because the server may notice a killed runner late."""
    deadline = time.monotonic() + 30
    while checkpoint().position < event_store.read_all(after=checkpoint().position).position:
        run_projection("tests.effects")
        assert time.monotonic() < deadline, checkpoint().last_error


def run_and_die_again_and_again(barrier: Barrier) -> None:
    with in_small_batches():
        for kill in range(KILLS):
            count(*range(kill * NEW_EVENTS + 1, (kill + 1) * NEW_EVENTS + 1))
            die_somewhere(lambda: run_projection("tests.effects"))


def in_small_batches() -> Any:
    from django.conf import settings
    from django.test import override_settings

    return override_settings(ES_DJANGO={**settings.ES_DJANGO, "PROJECTIONS": {"BATCH_SIZE": 3}})


def rebuild_and_die_again_and_again(barrier: Barrier) -> None:
    with in_small_batches():
        for _ in range(KILLS):
            die_somewhere(lambda: (start_rebuild("tests.effects", by="Ada"), run_projection("tests.effects")))


def run_beside_others(barrier: Barrier) -> int:
    barrier.wait()
    return sum(run_projection("tests.effects") for _ in range(20))


class Behind(Projection):
    """A projection that is registered after `Effects`."""

    class Meta:
        name = "tests.behind"
        mode = "async"

    @projects
    def counted(self, event: Counted, recorded: RecordedEvent) -> None:
        InboxReceipt.objects.create(consumer=self.name, message_id=str(recorded.position), status="handled")


def run_until_the_other_had_its_turn(barrier: Barrier) -> None:
    Effects.before_effect = staticmethod(die)
    # A fair order puts it first in half of the runs, so this test fails by chance once in 2 ** 30 times.
    for _ in range(30):
        in_a_process_that_dies(run_projections)
        if effects("tests.behind"):
            return


class TestKilledRunner:
    def test_a_killed_runner_repeats_nothing_and_loses_nothing(self) -> None:
        run_projection("tests.effects")
        run_processes(run_and_die_again_and_again, [()])
        finish()
        assert stored_effects() == [recorded.position for recorded in event_store.read_all().events]
        assert effects() == KILLS * NEW_EVENTS
        assert checkpoint().last_error == "", "an event that is applied twice would violate a unique key"

    def test_a_killed_rebuild_is_correct_after_it_starts_again(self) -> None:
        count(*range(1, 31))
        run_projection("tests.effects")
        before = stored_effects()
        InboxReceipt.objects.create(consumer="tests.effects", message_id="by hand", status="handled")
        start_rebuild("tests.effects", by="Ada")
        run_processes(rebuild_and_die_again_and_again, [()])
        finish()
        assert stored_effects() == before

    def test_a_projection_that_kills_its_process_does_not_starve_the_others(self) -> None:
        count(1)
        run_processes(run_until_the_other_had_its_turn, [()])
        assert (effects(), effects("tests.behind")) == (0, 1)


class TestConcurrentRunners:
    @pytest.mark.slow
    def test_each_event_is_applied_by_one_of_several_runners(self) -> None:
        run_projection("tests.effects")
        count(*range(1, 101))
        with in_small_batches():
            applied = run_processes(run_beside_others, [()] * 3)
        finish()
        assert effects() == 100
        assert sum(applied) <= 100
        assert checkpoint().last_error == ""
