"""Old code that meets an event of newer code steps aside: no attempt is counted, and newer code goes on from there."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import StringIO
from multiprocessing.synchronize import Barrier
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from pytest_django import Settings

from es_django import Event, Projection, RecordedEvent, StreamId, event_store, projects
from es_django.core.registry import registry
from es_django.errors import ProjectionTimeout, UnknownEventType, UnsupportedEventVersion
from es_django.management.commands import es_rebuild
from es_django.models import CheckpointStatus, OutboxMessage, ProjectionCheckpoint, SkippedEvent
from es_django.monitoring.health import status
from es_django.projections import (
    failure_policy,
    handover,
    pause,
    resume,
    run_projection,
    run_projections,
    runner,
    skip,
    start_rebuild,
    wait_for,
)
from es_django.projections.failure_policy import needs_newer_code
from es_django.store.backends import store_for
from tests.conformance.tampering import add_events
from tests.processes import run_processes
from tests.projections.effects import (
    Counted,
    checkpoint,
    count,
    effects,
    fail_at,
    let_pauses_end,
    position_of,
    stored_effects,
)
from tests.projections.test_partitions import Parted, append, versions

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "tests.effects"
BESIDE = StreamId("beside", "b-1")


class Looking(Projection):
    """A projection that reads a second stream for one of its events."""

    class Meta:
        name = "tests.looking"
        mode = "async"

    wraps = False
    applied: list[int] = []

    @projects
    def counted(self, event: Counted, recorded: RecordedEvent) -> None:
        if event.number == 5:
            try:
                list(event_store.read_stream(BESIDE))
            except UnknownEventType as error:
                if not self.wraps:
                    raise
                raise ValueError("the second stream cannot be read") from error
        self.applied.append(event.number)


class Noted(Event):
    text: str

    class Meta:
        name = "tests.newer_noted"


class NotesInline(Projection):
    """An inline projection that can be rebuilt."""

    class Meta:
        name = "tests.notes_inline"
        models = [OutboxMessage]

    @projects
    def noted(self, event: Noted, recorded: RecordedEvent) -> None:
        OutboxMessage.objects.create(type=event.text, destination="tests", data={}, headers={}, message_id=uuid4())


@contextmanager
def newer_code(cls: type[Event] = Counted) -> Iterator[None]:
    """Run the block as the next release of the code, whose schema version of `cls` is one higher."""
    event_type = registry.of(cls)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(event_type.upcasters, event_type.version, lambda payload: payload)
        patch.setattr(event_type, "version", event_type.version + 1)
        yield


def count_with_newer_code(*numbers: int) -> None:
    with newer_code():
        count(*numbers)


def note(*texts: str) -> None:
    for text in texts:
        event_store.append(StreamId("noted", text), [Noted(text=text)], expected=0)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.fixture(autouse=True)
def _new_process() -> None:
    failure_policy._stepped_aside.clear()
    Looking.applied.clear()
    Looking.wraps = False


@pytest.fixture(autouse=True)
def _fail_at_once(settings: Settings) -> None:
    """One attempt is the last, and a pause would never end."""
    settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"MAX_ATTEMPTS": 1, "BACKOFF": {"base": 3600}}}


def assert_stepped_aside(at: int, name: str = NAME, status: CheckpointStatus = CheckpointStatus.RUNNING) -> None:
    state = checkpoint(name)
    assert (state.status, state.attempts, state.retry_at) == (status, 0, None)
    assert (state.needs_newer_code, state.failed_position) == (True, at)


class TestRunner:
    def test_fault_a10_newer_code_goes_on_where_old_code_steps_aside(self) -> None:
        count(1, 2, 3)
        count_with_newer_code(4)
        count(5)
        assert run_projection(NAME) == 3, "the events before the newer one in the same batch are applied"
        assert checkpoint().position == position_of(3)
        for _ in range(3):
            assert run_projections() >= 0
            assert_stepped_aside(at=_position(4))
        assert checkpoint().last_error.startswith("UnsupportedEventVersion: event 1 of stream 'counter' 'c-4'")
        with newer_code():
            assert run_projection(NAME) == 2
        state = checkpoint()
        assert (effects(), state.needs_newer_code, state.failed_position, state.last_error) == (5, False, None, "")

    def test_fault_a10_the_first_event_of_the_log_may_be_newer(self) -> None:
        count_with_newer_code(1)
        run_projection(NAME)
        assert_stepped_aside(at=_position(1))
        with newer_code():
            assert run_projection(NAME) == 1

    def test_fault_a10_other_projections_go_on(self) -> None:
        count_with_newer_code(1)
        note("one")
        start_rebuild("tests.notes_inline", by="Ada")
        run_projections()
        assert_stepped_aside(at=_position(1))
        assert checkpoint("tests.notes_inline").status == CheckpointStatus.INLINE

    @pytest.mark.parametrize("wraps", [False, True])
    def test_fault_a10_an_unknown_type_that_a_projection_reads_is_found_in_the_batch(self, wraps: bool) -> None:
        Looking.wraps = wraps
        count(*range(1, 9))
        add_events(BESIDE, ("tests.of_the_next_release", 1, {}))
        run_projection("tests.looking")
        assert_stepped_aside(at=position_of(5), name="tests.looking")
        assert sorted(set(Looking.applied)) == [1, 2, 3, 4]
        assert checkpoint("tests.looking").position == position_of(4)

    def test_fault_a10_an_unknown_type_of_a_followed_event_is_newer_code(self, monkeypatch: pytest.MonkeyPatch) -> None:
        count(1)
        monkeypatch.setattr(registry.of(Counted), "aliases", ("tests.counted_anew",))
        add_events(BESIDE, ("tests.counted_anew", 1, {"number": 2}))
        assert run_projection(NAME) == 1
        assert_stepped_aside(at=event_store_end(), name=NAME)
        assert checkpoint().last_error.startswith("UnknownEventType: ")
        monkeypatch.setitem(registry._by_name, "tests.counted_anew", registry._by_name["tests.counted"])
        assert run_projection(NAME) == 1

    def test_fault_a10_partitions_without_a_newer_event_go_on(self) -> None:
        append(streams=8, events=1)
        with newer_code():
            event_store.append(StreamId("parted", "s-0"), [Counted(number=1)], expected=1)
        for number in range(8, 16):
            event_store.append(StreamId("parted", f"s-{number}"), [Counted(number=0)], expected=0)
        run_projection(Parted.name)
        states = list(ProjectionCheckpoint.objects.filter(name=Parted.name))
        (waiting,) = (each for each in states if each.needs_newer_code)
        assert {each.status for each in states} == {CheckpointStatus.RUNNING}
        others = [each for each in states if each != waiting]
        assert min(each.position for each in others) > waiting.position
        with newer_code():
            run_projection(Parted.name)
        assert versions() == {f"s-{number}": 2 if number == 0 else 1 for number in range(16)}

    def test_fault_a10_stepping_aside_writes_and_logs_once(self, caplog: pytest.LogCaptureFixture) -> None:
        count_with_newer_code(1, 2)
        run_projection(NAME)
        before = checkpoint().updated_at
        for _ in range(3):
            run_projection(NAME)
        (warning,) = warnings(caplog)
        assert warning.startswith(f"projection {NAME} needs newer code at position {_position(1)}")
        assert checkpoint().updated_at == before
        with newer_code():
            run_projection(NAME, seconds=0)
        run_projection(NAME)
        assert_stepped_aside(at=_position(2))
        assert len(warnings(caplog)) == 2, "the next event is another reason to log"
        failure_policy._stepped_aside.clear()
        run_projection(NAME)
        assert len(warnings(caplog)) == 3, "another process logs the event as well"

    def test_fault_a10_failures_of_newer_code_count_and_stay_visible(self, settings: Settings) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"MAX_ATTEMPTS": 2, "BACKOFF": {"base": 3600}}}
        count_with_newer_code(1)
        run_projection(NAME)
        fail_at(1)
        for attempts, expected in ((1, CheckpointStatus.RUNNING), (2, CheckpointStatus.FAILED)):
            with newer_code():
                run_projection(NAME)
            state = checkpoint()
            assert (state.status, state.attempts, state.needs_newer_code) == (expected, attempts, False)
            let_pauses_end()
            run_projection(NAME)
            assert (checkpoint().attempts, checkpoint().last_error) == (attempts, "ValueError('poison')")

    def test_fault_a10_old_code_that_reports_late_changes_nothing(self) -> None:
        count_with_newer_code(1)
        run_projection(NAME, seconds=0)
        before = checkpoint()
        with newer_code():
            run_projection(NAME)
        before.needs_newer_code = False
        failure_policy.record_failure(before, [before.failed_position or 0], _error())
        assert (checkpoint().needs_newer_code, checkpoint().last_error) == (False, "")

    def test_fault_a10_attempts_that_belong_to_no_event_are_forgotten(self) -> None:
        count_with_newer_code(1)
        run_projection(NAME)
        no_event = {"failed_position": None, "failing_until": None, "needs_newer_code": False, "last_error": ""}
        ProjectionCheckpoint.objects.filter(name=NAME).update(attempts=2, **no_event)
        run_projection(NAME)
        assert_stepped_aside(at=_position(1))
        assert checkpoint().last_error.startswith("UnsupportedEventVersion")


class TestOperations:
    def test_fault_a10_the_event_can_be_skipped(self) -> None:
        count_with_newer_code(1)
        count(2)
        run_projection(NAME)
        skip(NAME, _position(1), by="Ada")
        assert run_projection(NAME) == 1
        assert stored_effects() == [position_of(2)]
        assert "UnsupportedEventVersion" in SkippedEvent.objects.get().error
        assert not checkpoint().needs_newer_code

    def test_fault_a10_pause_and_resume_keep_the_reason(self) -> None:
        count_with_newer_code(1)
        run_projection(NAME)
        pause(NAME, by="Ada")
        resume(NAME, by="Ada")
        run_projection(NAME)
        assert_stepped_aside(at=_position(1))

    def test_fault_a10_waiting_names_the_reason(self) -> None:
        count(1)
        count_with_newer_code(2)
        run_projection(NAME)
        with pytest.raises(ProjectionTimeout, match=f"needs newer code at position {_position(2)}"):
            wait_for(NAME, timeout=0)
        wait_for(NAME, position_of(1), timeout=0)

    def test_fault_a10_es_status_says_it(self) -> None:
        count_with_newer_code(1)
        run_projection(NAME)
        out = StringIO()
        with pytest.raises(SystemExit):
            call_command("es_status", stdout=out)
        wanted = f"Problem: projection {NAME} needs newer code at position {_position(1)} (status: running)"
        assert wanted in " ".join(out.getvalue().split())
        out = StringIO()
        with pytest.raises(SystemExit):
            call_command("es_status", format="json", stdout=out)
        (shown,) = (each for each in json.loads(out.getvalue())["projections"] if each["name"] == NAME)
        assert (shown["needs_newer_code"], shown["failed_position"]) == (True, _position(1))
        with newer_code():
            run_projections()
        assert status().problems == []

    def test_fault_a10_es_project_once_says_it(self) -> None:
        count_with_newer_code(1)
        with pytest.raises(CommandError, match=f"{NAME} is running and needs newer code at position {_position(1)}"):
            call_command("es_project", "--once")

    def test_fault_a10_the_admin_says_it(self, admin_client: Client) -> None:
        count_with_newer_code(1)
        run_projection(NAME)
        page = admin_client.get("/admin/es_django/projectioncheckpoint/").content.decode()
        assert "(needs newer code)" in page
        assert "UnsupportedEventVersion" in page
        page = admin_client.get(f"/admin/es_django/projectioncheckpoint/{checkpoint().pk}/change/").content.decode()
        assert "Needs newer code at" in page


class TestRebuild:
    def test_fault_a10_es_rebuild_says_it_and_newer_code_ends_the_rebuild(self) -> None:
        count(1)
        count_with_newer_code(2)
        run_projection(NAME)
        for _ in range(2):
            with pytest.raises(
                CommandError, match=rf"needs newer code at position {_position(2)}: .* continue the reb"
            ):
                call_command("es_rebuild", NAME, stdout=StringIO(), stderr=StringIO())
            assert_stepped_aside(at=_position(2), status=CheckpointStatus.REBUILDING)
            assert effects() == 1
        with newer_code():
            call_command("es_rebuild", NAME, stdout=StringIO(), stderr=StringIO())
        assert (effects(), checkpoint().status, checkpoint().needs_newer_code) == (2, CheckpointStatus.RUNNING, False)

    def test_fault_a10_es_rebuild_with_newer_code_ignores_the_reason_of_old_workers(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        count_with_newer_code(1)
        start_rebuild(NAME, by="Ada")
        run_projection(NAME)
        failure_policy._stepped_aside.clear()
        # In its first turn, the command finds the checkpoint locked by an old worker.
        turns = iter([lambda *args, **options: 0])
        monkeypatch.setattr(es_rebuild, "run_projection", lambda *a, **b: next(turns, run_projection)(*a, **b))
        with newer_code():
            call_command("es_rebuild", NAME, stdout=StringIO(), stderr=StringIO())
        assert checkpoint().status == CheckpointStatus.RUNNING

    def test_fault_a10_a_rebuild_of_an_inline_projection_waits_for_newer_code(self) -> None:
        note("one")
        with newer_code(Noted):
            note("two")
        start_rebuild("tests.notes_inline", by="Ada")
        run_projections()
        assert_stepped_aside(at=event_store_end(), name="tests.notes_inline", status=CheckpointStatus.REBUILDING)
        assert OutboxMessage.objects.count() == 1
        note("three")
        with newer_code(Noted):
            run_projections()
        assert checkpoint("tests.notes_inline").status == CheckpointStatus.INLINE
        assert sorted(OutboxMessage.objects.values_list("type", flat=True)) == ["one", "three", "two"]

    def test_fault_a10_a_newer_event_that_arrives_at_the_end_of_a_rebuild_makes_no_pause(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        note("one")
        start_rebuild("tests.notes_inline", by="Ada")

        def append_first(projection: Projection) -> None:
            with newer_code(Noted):
                note("two")
            handover.give_to_appends(projection)

        monkeypatch.setattr(runner, "give_to_appends", append_first)
        run_projection("tests.notes_inline")
        monkeypatch.undo()
        state = checkpoint("tests.notes_inline")
        assert (state.status, state.attempts, state.retry_at) == (CheckpointStatus.REBUILDING, 0, None)
        run_projection("tests.notes_inline")
        assert_stepped_aside(at=event_store_end(), name="tests.notes_inline", status=CheckpointStatus.REBUILDING)
        with newer_code(Noted):
            run_projection("tests.notes_inline")
        assert checkpoint("tests.notes_inline").status == CheckpointStatus.INLINE


@pytest.mark.slow
class TestRollingDeployment:
    def test_fault_a10_old_and_new_workers_share_a_log_of_both_versions(self) -> None:
        for number in range(1, 41, 2):
            count(number)
            count_with_newer_code(number + 1)
        connection.close()
        run_processes(work, [(False,), (True,), (False,)])
        state = checkpoint()
        assert (effects(), state.status, state.attempts, state.last_error) == (40, CheckpointStatus.RUNNING, 0, "")


def work(barrier: Barrier, is_new: bool) -> None:
    """Run the projection with old or new code until it is at the end of the log."""
    deadline = time.monotonic() + 40
    barrier.wait()
    with newer_code() if is_new else nullcontext():
        while effects() < 40:
            run_projection(NAME)
            assert time.monotonic() < deadline, checkpoint().last_error


def event_store_end() -> int:
    return store_for().safe_end()


def _position(number: int) -> int:
    with newer_code():
        return position_of(number)


def _error() -> UnsupportedEventVersion:
    error = UnsupportedEventVersion(StreamId("counter", "c-1"), 1, "tests.counted", "newer")
    assert needs_newer_code(error)
    return error
