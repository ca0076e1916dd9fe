"""Read models: in the commit of their events, or from a checkpoint."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, transaction
from django.utils import timezone
from pytest_django import Settings

from es_django import (
    ANY,
    Event,
    PendingEvent,
    Projection,
    RecordedEvent,
    Repository,
    StorageError,
    StreamId,
    event_store,
    projects,
)
from es_django.models import InboxReceipt, ProjectionCheckpoint
from es_django.projections import base, runner
from es_django.projections.runner import run_projection, run_projections
from es_django.store import reactions
from tests.domain import Annotated, Ledger
from tests.processes import run_processes
from tests.threads import threads

pytestmark = pytest.mark.django_db(transaction=True)

Status = ProjectionCheckpoint.Status


class Counted(Event):
    number: int

    class Meta:
        name = "tests.counted"


class Effects(Projection):
    """Writes a row for each event; any table will do, and this one has a unique key."""

    class Meta:
        name = "tests.effects"
        mode = "async"

    @projects
    def counted(self, event: Counted, recorded: RecordedEvent) -> None:
        Effects.before_effect(event)
        InboxReceipt.objects.create(consumer=self.name, message_id=f"{recorded.position:05}", status="handled")

    before_effect: Callable[[Counted], None] = staticmethod(lambda event: None)


class Inline(Projection):
    class Meta:
        name = "tests.inline"

    @projects
    def annotated(self, event: Annotated, recorded: RecordedEvent) -> None:
        for effect in event.note if isinstance(event.note, list) else []:
            InboxReceipt.objects.create(consumer=self.name, message_id=effect, status="handled")


@pytest.fixture(autouse=True)
def _no_mishap() -> Iterator[None]:
    Effects.before_effect = staticmethod(lambda event: None)
    yield
    Effects.before_effect = staticmethod(lambda event: None)


def count(*numbers: int) -> None:
    for number in numbers:
        event_store.append(StreamId("counter", f"c-{number}"), [Counted(number=number)], expected=0)


def effects(name: str = "tests.effects") -> int:
    return InboxReceipt.objects.filter(consumer=name).count()


def checkpoint() -> ProjectionCheckpoint:
    return ProjectionCheckpoint.objects.get(name="tests.effects")


def test_an_inline_projection_is_in_the_commit() -> None:
    ledger = Ledger.open("l-1")
    ledger.annotate(["one", "two"])
    with pytest.raises(KeyError), transaction.atomic():
        Repository(Ledger).save(ledger)
        assert effects("tests.inline") == 2
        raise KeyError
    assert effects("tests.inline") == 0
    Repository(Ledger).save(ledger)
    assert effects("tests.inline") == 2


def test_an_inline_projection_does_not_apply_a_repeated_append_again() -> None:
    stream = StreamId("ledger", "l-1")
    events = [PendingEvent(Annotated(note=["once"]))]
    for _ in range(2):
        event_store.append(stream, events, expected=0)
        event_store.append(stream, events, expected=ANY)
    assert effects("tests.inline") == 1


class Careless(Projection):
    """Catches an error that has spoilt the transaction, and goes on as if nothing had happened."""

    class Meta:
        name = "tests.careless"
        mode = "async"

    @projects
    def counted(self, event: Counted, recorded: RecordedEvent) -> None:
        if event.number == 13:
            swallow_an_error(self.name)


class CarelessInline(Projection):
    class Meta:
        name = "tests.careless_inline"

    @projects
    def annotated(self, event: Annotated, recorded: RecordedEvent) -> None:
        if event.note == "swallow":
            swallow_an_error(self.name)


def swallow_an_error(consumer: str) -> None:
    with suppress(IntegrityError):
        InboxReceipt.objects.create(consumer=consumer, message_id="", status="handled")


@pytest.mark.parametrize("outer", [False, True])
def test_an_inline_projection_that_swallows_a_database_error_is_told(outer: bool) -> None:
    ledger = Ledger.open("l-1")
    ledger.annotate("swallow")
    with (
        pytest.raises(StorageError, match="was caught inside it") as caught,
        transaction.atomic() if outer else nullcontext(),
    ):
        Repository(Ledger).save(ledger)
    assert not caught.value.retryable
    assert (ledger.committed_version, event_store.version(ledger.stream)) == (0, 0)


def test_a_projection_that_swallows_a_database_error_stays_where_it_is() -> None:
    count(12, 13)
    assert run_projection("tests.careless") == 1
    state = ProjectionCheckpoint.objects.get(name="tests.careless")
    assert "was caught inside it" in state.last_error
    assert state.failed_position == event_store.read_all().position


@pytest.mark.parametrize("outer", [False, True])
def test_an_inline_projection_that_fails_takes_everything_with_it(outer: bool) -> None:
    ledger = Ledger.open("l-1")
    ledger.annotate(["same", "same"])
    if outer:
        with transaction.atomic():
            with pytest.raises(StorageError) as caught:
                Repository(Ledger).save(ledger)
            assert not Repository(Ledger).exists("l-1"), "the caller's transaction goes on without it"
    else:
        with pytest.raises(StorageError) as caught:
            Repository(Ledger).save(ledger)
    assert not caught.value.retryable
    assert (effects("tests.inline"), event_store.version(ledger.stream)) == (0, 0)
    assert (ledger.committed_version, len(ledger.pending_events)) == (0, 2)


def test_an_asynchronous_projection_applies_the_log_once() -> None:
    count(1, 2, 3)
    assert effects() == 0
    assert run_projection("tests.effects") == 3
    assert run_projection("tests.effects") == 0
    count(4)
    assert run_projection("tests.effects") == 1
    assert effects() == 4


def test_events_that_it_does_not_handle_move_its_checkpoint() -> None:
    count(1)
    Repository(Ledger).save(Ledger.open("l-1"))
    run_projection("tests.effects")
    assert checkpoint().position == event_store.read_all().position


def test_an_unknown_projection_is_told() -> None:
    with pytest.raises(KeyError):
        run_projection("tests.nobody")


def run_and_die_at(barrier: Barrier, number: int) -> None:
    def die(event: Counted) -> None:
        if event.number == number:
            os.kill(os.getpid(), signal.SIGKILL)

    Effects.before_effect = staticmethod(die)
    run_projection("tests.effects")


def test_a_killed_runner_repeats_nothing_and_loses_nothing(settings: Settings) -> None:
    count(*range(1, 8))
    run_projection("tests.effects", seconds=0)
    with pytest.raises(RuntimeError, match="exit code -9"):
        run_processes(run_and_die_at, [(4,)])
    assert (effects(), checkpoint().position) == (0, 0)
    assert run_projection("tests.effects") == 7
    assert effects() == 7


@pytest.mark.requires_postgresql
def test_a_second_runner_steps_aside() -> None:
    count(1, 2)
    run_projection("tests.effects", seconds=0)
    with transaction.atomic():
        ProjectionCheckpoint.objects.select_for_update().get(name="tests.effects")
        with threads(1) as submit:
            assert submit(run_projection, "tests.effects").result(10) == 0
    assert run_projection("tests.effects") == 2


def run_beside_others(barrier: Barrier) -> int:
    barrier.wait()
    return run_projection("tests.effects")


def test_several_runners_apply_each_event_once() -> None:
    count(*range(1, 31))
    run_processes(run_beside_others, [()] * 3)
    run_projection("tests.effects")
    assert effects() == 30


def fail_at(number: int) -> Callable[[Counted], None]:
    def fail(event: Counted) -> None:
        if event.number == number:
            raise ValueError("poison")

    return fail


def let_pauses_end() -> None:
    ProjectionCheckpoint.objects.filter(retry_at__isnull=False).update(retry_at=timezone.now() - timedelta(hours=1))


def test_a_poison_event_stops_its_projection_there_and_visibly(settings: Settings) -> None:
    settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"MAX_ATTEMPTS": 3}}
    count(1, 2, 3, 4)
    poison = [recorded.position for recorded in event_store.read_all().events][2]
    Effects.before_effect = staticmethod(fail_at(3))
    for attempts in (1, 2, 3):
        run_projections()
        state = checkpoint()
        assert (effects(), state.attempts, state.failed_position) == (2, attempts, poison)
        assert state.status == (Status.FAILED if attempts == 3 else Status.RUNNING)
        assert "poison" in state.last_error
        assert run_projection("tests.effects") == 0, "it waits before it tries again"
        let_pauses_end()
    Effects.before_effect = staticmethod(fail_at(0))
    assert run_projection("tests.effects") == 0, "it stays failed until an operator decides"


def test_what_trying_again_can_help_is_never_given_up(settings: Settings) -> None:
    settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"MAX_ATTEMPTS": 1}}
    count(1)

    def fail(event: Counted) -> None:
        raise ConnectionError("for now")

    Effects.before_effect = staticmethod(fail)
    for attempts in (1, 2, 3):
        run_projections()
        assert (checkpoint().status, checkpoint().attempts) == (Status.RUNNING, attempts)
        let_pauses_end()
    Effects.before_effect = staticmethod(fail_at(0))
    assert run_projection("tests.effects") == 1


def test_a_projection_that_recovers_goes_on() -> None:
    count(1, 2, 3)
    Effects.before_effect = staticmethod(fail_at(2))
    run_projection("tests.effects")
    Effects.before_effect = staticmethod(fail_at(0))
    let_pauses_end()
    assert run_projection("tests.effects") == 2
    state = checkpoint()
    assert (effects(), state.attempts, state.last_error, state.failed_position) == (3, 0, "", None)


def test_an_event_that_cannot_be_read_is_noted_and_other_projections_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    count(1)

    def unreadable(*args: object) -> None:
        raise ValueError("unreadable")

    monkeypatch.setattr(Effects, "apply", unreadable)
    run_projections()
    assert "unreadable" in checkpoint().last_error


def test_a_projection_without_a_name_or_with_a_wrong_mode_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"Nameless\.Meta\.name"):
        type("Nameless", (Projection,), {})
    wrong: dict[str, Any] = {"Meta": type("Meta", (), {"name": "tests.wrong", "mode": "sync"})}
    with pytest.raises(ImproperlyConfigured, match="not 'sync'"):
        type("Wrong", (Projection,), wrong)


def test_two_projections_of_one_name_are_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"are both named 'tests\.inline'"):
        type("Second", (Projection,), {"Meta": type("Meta", (), {"name": "tests.inline"})})
    assert sum(each.name == "tests.inline" for each in map(_named, reactions.inline_projections)) == 1
    assert base.registered_projections()["tests.inline"] in reactions.inline_projections
    assert "tests.inline" not in runner.asynchronous_projections()


def _named(projection: object) -> Projection:
    assert isinstance(projection, Projection)
    return projection
