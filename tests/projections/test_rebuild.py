"""A rebuild restores the read model from the log, whatever happens meanwhile, and repeats no side effect."""

import re
from collections.abc import Callable
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import transaction
from pytest_django import Settings

from es_django import ANY, Event, Projection, RecordedEvent, StreamId, event_store, outbox, projects
from es_django.models import (
    CheckpointStatus,
    InboxReceipt,
    Lease,
    OutboxMessage,
    ProjectionCheckpoint,
    Snapshot,
    StoredEvent,
)
from es_django.projections import is_replaying, pause, resume, run_projection, run_projections, skip, start_rebuild
from testproject.bank.models import Balance, StatementLine
from testproject.bank.services import deposit, open_account
from tests.conformance.tampering import add_events
from tests.domain import Annotated
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


class Said(Event):
    text: str

    class Meta:
        name = "tests.said"


class Sending(Projection):
    """A projection that sends a message for each note."""

    class Meta:
        name = "tests.sending"
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

    @projects
    def said(self, event: Said, recorded: RecordedEvent) -> None:
        """Writes nothing."""


class SendingInline(Projection):
    class Meta:
        name = "tests.sending_inline"
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


def sent() -> list[Any]:
    return list(OutboxMessage.objects.filter(type="tests.noted").order_by("id").values_list("data", flat=True))


def note(*notes: str) -> None:
    for text in notes:
        event_store.append(StreamId("note", text), [Annotated(note=text)], expected=0)


def interrupt_at(number: int) -> Callable[[Counted], None]:
    def interrupt(event: Counted) -> None:
        if event.number == number:
            raise KeyboardInterrupt

    return interrupt


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def _fail_at_once(settings: Settings) -> None:
    settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"MAX_ATTEMPTS": 1}}


class Appending(Projection):
    """Append an event to another stream for each event. If `asks`, it appends nothing in a replay."""

    class Meta:
        name = "tests.appending"
        mode = "async"
        models = [LogEntry]

    asks = True

    @projects
    def said(self, event: Said, recorded: RecordedEvent) -> None:
        if not (self.asks and is_replaying()):
            event_store.append(StreamId("echo", event.text), [Counted(number=0)], expected=ANY)
            transaction.on_commit(lambda: HOOKS.append(event.text))


HOOKS: list[str] = []


class TestReadModel:
    @pytest.mark.parametrize(("name", "model"), [("balances", Balance), ("statements", StatementLine)])
    def test_a_rebuild_restores_the_read_model_and_deletes_foreign_rows(self, name: str, model: Any) -> None:
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
        assert everything(model) != before, "the projection must continue after the rebuild"

    def test_models_and_checkpoint_are_reset_together(self) -> None:
        count(1, 2)
        run_projection(NAME)
        assert start_rebuild(NAME, by="Ada")
        assert (effects(), checkpoint().position, checkpoint().status) == (0, 0, CheckpointStatus.REBUILDING)

    def test_workers_finish_a_rebuild_whose_command_has_ended(self) -> None:
        count(*range(1, 8))
        run_projection(NAME)
        start_rebuild(NAME, by="Ada")
        assert run_projections() >= 7
        assert (effects(), checkpoint().status) == (7, CheckpointStatus.RUNNING)

    def test_a_rebuild_adopts_another_number_of_partitions(self) -> None:
        for number in range(7):
            ProjectionCheckpoint.objects.create(name=NAME, partition=number, partitions=7)
        count(1, 2, 3)
        rebuild(NAME)
        assert (effects(), checkpoint().partitions, checkpoint().status) == (3, 1, CheckpointStatus.RUNNING)


class TestErrors:
    def test_a_projection_without_models_is_an_error(self) -> None:
        with pytest.raises(CommandError, match=r"it has no models to empty: list them in Meta\.models"):
            rebuild("tests.unowned")
        assert not ProjectionCheckpoint.objects.filter(name="tests.unowned").exists()

    def test_models_with_cascading_foreign_keys_of_other_models_are_an_error(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        count(1)
        run_projection(NAME)
        monkeypatch.setattr(Effects, "models", (InboxReceipt, Permission))
        with pytest.raises(CommandError, match=r"auth\.Group_permissions\.permission, auth\.User_user_permissions"):
            rebuild(NAME)
        assert (effects(), checkpoint().status) == (1, CheckpointStatus.RUNNING)

    def test_an_unknown_projection_is_an_error(self) -> None:
        with pytest.raises(CommandError, match="no projection is named 'nobody'"):
            rebuild("nobody")


class TestProgress:
    def test_an_interrupted_rebuild_continues_at_its_position(self, settings: Settings) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"BATCH_SIZE": 2}}
        count(*range(1, 8))
        run_projection(NAME)
        Effects.before_effect = staticmethod(interrupt_at(5))
        with pytest.raises(CommandError, match=r"Interrupted\..* continue the rebuild") as caught:
            rebuild(NAME)
        assert caught.value.returncode == 130
        assert (effects(), checkpoint().status) == (4, CheckpointStatus.REBUILDING)
        no_mishap()
        said = rebuild(NAME)
        assert f"A rebuild of {NAME} is already under way. Continuing it." in said
        assert "3 events" in said
        assert (effects(), checkpoint().status) == (7, CheckpointStatus.RUNNING)

    def test_a_rebuild_shows_its_progress_and_speed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "xterm")
        count(*range(1, 8))
        terminal = Terminal()
        call_command("es_rebuild", NAME, stdout=terminal)
        shown = terminal.getvalue()
        assert NAME in shown
        assert "100%" in shown
        assert re.search(r"7 events in \d+\.\d s, [\d,]+ events a second", shown)

    def test_a_paused_rebuild_continues_when_it_is_resumed(self) -> None:
        count(1)
        start_rebuild(NAME, by="Ada")
        pause(NAME, by="Ada")
        resume(NAME, by="Ada")
        assert run_projection(NAME) == 1

    def test_a_resumed_rebuild_stays_a_rebuild(self) -> None:
        count(1, 2)
        start_rebuild(NAME, by="Ada")
        pause(NAME, by="Ada")
        resume(NAME, by="Ada")
        assert checkpoint().status == CheckpointStatus.REBUILDING
        assert "rebuilt: 2 events" in rebuild(NAME)


class TestSideEffects:
    def test_a_rebuild_sends_no_message_again(self, recorder: type[Recorder]) -> None:
        Sending.replays.clear()
        note("one", "two")
        run_projection("tests.sending")
        assert sent() == ["one", "two"]
        rebuild("tests.sending")
        assert sent() == ["one", "two"]
        assert Sending.replays == [False, False, True, True]

    def test_a_rebuild_sends_messages_of_events_that_were_appended_since(self, recorder: type[Recorder]) -> None:
        note("one")
        run_projection("tests.sending")
        start_rebuild("tests.sending", by="Ada")
        note("two")
        run_projections()
        assert sent() == ["one", "two"], "one batch with a replayed event and a new one"
        start_rebuild("tests.sending", by="Ada")
        note("three")
        pause("tests.sending", by="Ada")
        start_rebuild("tests.sending", by="Ada")
        run_projections()
        assert sent() == ["one", "two", "three"], "a second rebuild must keep the side effects of the first"

    def test_the_rebuild_of_an_inline_projection_sends_messages_of_events_that_were_appended_since(
        self, recorder: type[Recorder]
    ) -> None:
        def say(text: str) -> None:
            event_store.append(StreamId("said", text), [Said(text=text)], expected=0)

        say("one")
        start_rebuild("tests.sending_inline", by="Ada")
        say("two")
        assert sent() == ["one"]
        run_projections()
        say("three")
        assert sent() == ["one", "two", "three"]

    @pytest.mark.usefixtures("_fail_at_once")
    @pytest.mark.parametrize("asks", [True, False])
    def test_a_rebuild_appends_no_event_again(
        self, asks: bool, monkeypatch: pytest.MonkeyPatch, settings: Settings, recorder: type[Recorder]
    ) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"MAX_ATTEMPTS": 1}}
        HOOKS.clear()
        event_store.append(StreamId("said", "one"), [Said(text="one")], expected=0)
        run_projection("tests.appending")
        monkeypatch.setattr(Appending, "asks", asks)
        start_rebuild("tests.appending", by="Ada")
        event_store.append(StreamId("said", "two"), [Said(text="two")], expected=0)
        run_projection("tests.appending")
        state = checkpoint("tests.appending")
        assert event_store.version(StreamId("echo", "one")) == 1
        if asks:
            assert (state.status, HOOKS) == (CheckpointStatus.RUNNING, ["one", "two"])
            assert event_store.version(StreamId("echo", "two")) == 1
        else:
            assert (state.status, HOOKS) == (CheckpointStatus.FAILED, ["one"])
            assert "append only if es_django.projections.is_replaying() is False" in state.last_error


class TestFailures:
    @pytest.mark.usefixtures("_fail_at_once")
    def test_a_failed_rebuild_names_its_position_and_continues_as_a_rebuild(self) -> None:
        count(1, 2, 3)
        run_projection(NAME)
        fail_at(2)
        with pytest.raises(CommandError, match=rf"failed at position {position_of(2)}: ValueError\('poison'\)"):
            rebuild(NAME)
        no_mishap()
        resume(NAME, by="Ada")
        assert checkpoint().status == CheckpointStatus.REBUILDING
        rebuild(NAME)
        assert (effects(), checkpoint().status) == (3, CheckpointStatus.RUNNING)

    @pytest.mark.usefixtures("_fail_at_once")
    def test_an_event_can_be_skipped_in_a_rebuild(self) -> None:
        count(1, 2, 3)
        run_projection(NAME)
        fail_at(2)
        start_rebuild(NAME, by="Ada")
        run_projections()
        skip(NAME, position_of(2), by="Ada")
        assert checkpoint().status == CheckpointStatus.REBUILDING
        rebuild(NAME)
        assert stored_effects() == [position_of(1), position_of(3)]

    @pytest.mark.parametrize("first", [1, 2])
    def test_a_rebuild_does_not_end_before_an_unreadable_event(self, first: int) -> None:
        count(*range(first))
        add_events(StreamId("counter", "unreadable"), ("tests.counted", 1, {"number": "?"}))
        count(10)
        start_rebuild(NAME, by="Ada")
        run_projection(NAME, seconds=0)
        assert (effects(), checkpoint().status) == (first, CheckpointStatus.REBUILDING)
        run_projection(NAME)
        (unreadable,) = StoredEvent.objects.filter(stream__key="unreadable")
        assert (effects(), checkpoint().failed_position) == (first, unreadable.position)
        skip(NAME, unreadable.position, by="Ada")
        run_projection(NAME)
        assert (effects(), checkpoint().status) == (first + 1, CheckpointStatus.RUNNING)
