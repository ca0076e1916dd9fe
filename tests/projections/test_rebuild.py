"""A rebuild ends with what the log says, whatever happens on the way, and tells the outside nothing twice."""

from collections.abc import Callable
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from es_django import Event, Projection, RecordedEvent, StreamId, event_store, outbox, projects
from es_django.models import Lease, OutboxMessage, ProjectionCheckpoint, Snapshot
from es_django.projections import is_replaying, pause, resume, run_projection, run_projections, skip, start_rebuild
from es_django.store.reactions import replaying
from testproject.bank.models import Balance, StatementLine
from testproject.bank.services import deposit, open_account
from tests.domain import Annotated
from tests.outbox.published import Told
from tests.projections.effects import (
    Counted,
    Effects,
    checkpoint,
    count,
    effects,
    fail_at,
    no_mishap,
    position_of,
    stored_effects,
)
from tests.publishers import Recorder

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "tests.effects"
Status = ProjectionCheckpoint.Status


class Said(Event):
    text: str

    class Meta:
        name = "tests.said"


class Telling(Projection):
    """Tells the outside of each note."""

    class Meta:
        name = "tests.telling"
        mode = "async"
        models = [Lease]

    replays: list[bool] = []

    @projects
    def annotated(self, event: Annotated, recorded: RecordedEvent) -> None:
        self.replays.append(is_replaying())
        outbox.send("tests", type="tests.noted", data=event.note)


class Unowned(Projection):
    class Meta:
        name = "tests.unowned"


class TellingInline(Projection):
    class Meta:
        name = "tests.telling_inline"
        models = [Snapshot]

    @projects
    def said(self, event: Said, recorded: RecordedEvent) -> None:
        outbox.send("tests", type="tests.noted", data=event.text)


def rebuild(name: str) -> str:
    out = StringIO()
    call_command("es_rebuild", name, stdout=out, stderr=out)
    return out.getvalue()


def everything(model: Any) -> list[dict[str, Any]]:
    return list(model.objects.order_by("pk").values())


def told() -> list[Any]:
    return list(OutboxMessage.objects.filter(type="tests.noted").order_by("id").values_list("data", flat=True))


def note(*notes: str) -> None:
    for text in notes:
        event_store.append(StreamId("note", text), [Annotated(note=text)], expected=0)


@pytest.mark.parametrize(("name", "model"), [("balances", Balance), ("statements", StatementLine)])
def test_a_rebuilt_read_model_is_the_same_without_what_the_log_does_not_know(name: str, model: Any) -> None:
    for account in ("ada", "bob"):
        open_account(account, owner=account.title())
        deposit(account, Decimal("12.50"))
    run_projections()
    before = everything(model)
    assert before
    stray = model.objects.order_by("pk").last()
    stray.pk, stray.account = (999_999 if name == "statements" else "eve"), "eve"
    stray.save(force_insert=True)
    model.objects.filter(account="ada").delete()
    assert rebuild(name).startswith(f"{name} is rebuilt: 4 events in ")
    assert everything(model) == before
    deposit("bob", Decimal(1))
    run_projections()
    assert everything(model) != before, "and it goes on from there"


def test_models_and_checkpoint_are_reset_together() -> None:
    count(1, 2)
    run_projection(NAME)
    assert start_rebuild(NAME, by="Ada")
    assert (effects(), checkpoint().position, checkpoint().status) == (0, 0, Status.REBUILDING)


def test_a_projection_without_models_is_refused() -> None:
    with pytest.raises(CommandError, match=r"it has no Meta\.models"):
        rebuild("tests.unowned")
    assert not ProjectionCheckpoint.objects.exists()


def test_an_unknown_projection_is_refused() -> None:
    with pytest.raises(CommandError, match="no projection is named 'nobody'"):
        rebuild("nobody")


def interrupt_at(number: int) -> Callable[[Counted], None]:
    def interrupt(event: Counted) -> None:
        if event.number == number:
            raise KeyboardInterrupt

    return interrupt


def test_a_rebuild_that_was_interrupted_goes_on_where_it_was(settings: Settings) -> None:
    settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"BATCH_SIZE": 2}}
    count(*range(1, 8))
    run_projection(NAME)
    Effects.before_effect = staticmethod(interrupt_at(5))
    with pytest.raises(CommandError, match=r"Interrupted\..* go on with the rebuild") as caught:
        rebuild(NAME)
    assert caught.value.returncode == 130
    assert (effects(), checkpoint().status) == (4, Status.REBUILDING)
    no_mishap()
    said = rebuild(NAME)
    assert f"The rebuild of {NAME} was under way, and goes on." in said
    assert "3 events" in said
    assert (effects(), checkpoint().status) == (7, Status.RUNNING)


def test_a_rebuild_goes_on_without_its_command() -> None:
    count(*range(1, 8))
    run_projection(NAME)
    start_rebuild(NAME, by="Ada")
    assert run_projections() >= 7
    assert (effects(), checkpoint().status) == (7, Status.RUNNING)


def test_a_rebuild_sends_nothing_again(recorder: type[Recorder]) -> None:
    Telling.replays.clear()
    note("one", "two")
    run_projection("tests.telling")
    assert told() == ["one", "two"]
    rebuild("tests.telling")
    assert told() == ["one", "two"]
    assert Telling.replays == [False, False, True, True]


def test_a_rebuild_sends_what_was_appended_since(recorder: type[Recorder]) -> None:
    note("one")
    run_projection("tests.telling")
    start_rebuild("tests.telling", by="Ada")
    note("two")
    run_projections()
    assert told() == ["one", "two"], "one batch, of which one event is told again"
    start_rebuild("tests.telling", by="Ada")
    note("three")
    pause("tests.telling", by="Ada")
    start_rebuild("tests.telling", by="Ada")
    run_projections()
    assert told() == ["one", "two", "three"], "and a rebuild that is started anew forgets nothing"


def test_an_inline_projection_that_is_rebuilt_sends_what_was_appended_since(recorder: type[Recorder]) -> None:
    def say(text: str) -> None:
        event_store.append(StreamId("said", text), [Said(text=text)], expected=0)

    say("one")
    start_rebuild("tests.telling_inline", by="Ada")
    say("two")
    assert told() == ["one"]
    run_projections()
    say("three")
    assert told() == ["one", "two", "three"]


def test_an_append_in_a_replay_publishes_nothing(recorder: type[Recorder]) -> None:
    before = OutboxMessage.objects.count()
    with replaying(True):
        event_store.append(StreamId("told", "t-1"), [Told(text="again")], expected=0)
    assert OutboxMessage.objects.count() == before
    event_store.append(StreamId("told", "t-2"), [Told(text="new")], expected=0)
    assert OutboxMessage.objects.count() > before


@pytest.fixture
def _fail_at_once(settings: Settings) -> None:
    settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"MAX_ATTEMPTS": 1}}


@pytest.mark.usefixtures("_fail_at_once")
def test_a_rebuild_that_fails_says_where_and_goes_on_as_a_rebuild() -> None:
    count(1, 2, 3)
    run_projection(NAME)
    fail_at(2)
    with pytest.raises(CommandError, match=rf"has failed at position {position_of(2)}: ValueError\('poison'\)"):
        rebuild(NAME)
    no_mishap()
    resume(NAME, by="Ada")
    assert checkpoint().status == Status.REBUILDING
    rebuild(NAME)
    assert (effects(), checkpoint().status) == (3, Status.RUNNING)


@pytest.mark.usefixtures("_fail_at_once")
def test_an_event_can_be_skipped_in_a_rebuild() -> None:
    count(1, 2, 3)
    run_projection(NAME)
    fail_at(2)
    start_rebuild(NAME, by="Ada")
    run_projections()
    skip(NAME, position_of(2), by="Ada")
    assert checkpoint().status == Status.REBUILDING
    rebuild(NAME)
    assert stored_effects() == [position_of(1), position_of(3)]


def test_a_rebuild_that_was_paused_says_so() -> None:
    count(1)
    start_rebuild(NAME, by="Ada")
    pause(NAME, by="Ada")
    resume(NAME, by="Ada")
    assert run_projection(NAME) == 1


@pytest.mark.parametrize("before", [2, 7])
def test_a_rebuild_takes_up_another_number_of_partitions(before: int, recorder: type[Recorder]) -> None:
    note("one", "two", "three")
    positions = [recorded.position for recorded in event_store.read_all().events]
    for number in range(before):
        ProjectionCheckpoint.objects.create(
            name="tests.telling", partition=number, partitions=before, position=positions[min(number, 2)]
        )
    rebuild("tests.telling")
    (state,) = ProjectionCheckpoint.objects.filter(name="tests.telling")
    assert (state.partition, state.partitions, state.status) == (0, 1, Status.RUNNING)
    assert told() == ["two", "three"], "what some of them may not have told is told"
