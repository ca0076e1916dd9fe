"""Inline projections run in the transaction that stores the events."""

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, transaction

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
from es_django.errors import DefinitionError
from es_django.models import InboxReceipt
from es_django.projections import base
from es_django.store import hooks
from testproject.bank.models import Balance
from tests.domain import Annotated, Ledger
from tests.projections.effects import effects

pytestmark = pytest.mark.django_db(transaction=True)


class Inline(Projection):
    class Meta:
        name = "tests.inline"

    @projects
    def annotated(self, event: Annotated, recorded: RecordedEvent) -> None:
        for effect in event.note if isinstance(event.note, list) else []:
            InboxReceipt.objects.create(consumer=self.name, message_id=effect, status="handled")


class Came(Event): ...


class Paid(Event): ...


class Went(Event): ...


SEEN: list[tuple[str, list[str]]] = []


class First(Projection):
    class Meta:
        name = "tests.order.first"

    def project_batch(self, events: Sequence[RecordedEvent[Paid | Went]]) -> None:
        SEEN.append((self.name, [type(recorded.event).__name__ for recorded in events]))


class Second(Projection):
    class Meta:
        name = "tests.order.second"

    @projects
    def moved(self, event: Came | Paid, recorded: RecordedEvent) -> None:
        SEEN.append((self.name, [type(event).__name__]))


class CarelessInline(Projection):
    class Meta:
        name = "tests.careless_inline"

    @projects
    def annotated(self, event: Annotated, recorded: RecordedEvent) -> None:
        if event.note == "swallow":
            swallow_an_error(self.name)
        for note, error in AFTER_THE_COMMIT.items():
            if event.note == note:
                transaction.on_commit(partial(end_in_a_deadlock, error))


def swallow_an_error(consumer: str) -> None:
    with suppress(IntegrityError):
        InboxReceipt.objects.create(consumer=consumer, message_id="", status="handled")


class Deadlock(Exception):
    sqlstate = "40P01"


AFTER_THE_COMMIT = {"raw": OperationalError(), "of an append": StorageError("append", True, "a deadlock")}


def end_in_a_deadlock(error: Exception) -> None:
    raise error from Deadlock()


def batch_of(annotation: Any) -> dict[str, Any]:
    def project_batch(self: Any, events: Any) -> None:
        pass

    project_batch.__annotations__["events"] = annotation
    return {"Meta": type("Meta", (), {"name": "tests.batch"}), "project_batch": project_batch}


def _named(projection: object) -> Projection:
    assert isinstance(projection, Projection)
    return projection


class TestAppend:
    def test_a_projection_commits_with_the_append(self) -> None:
        ledger = Ledger.open("l-1")
        ledger.annotate(["one", "two"])
        with pytest.raises(KeyError), transaction.atomic():
            Repository(Ledger).save(ledger)
            assert effects("tests.inline") == 2
            raise KeyError
        assert effects("tests.inline") == 0
        Repository(Ledger).save(ledger)
        assert effects("tests.inline") == 2

    def test_a_repeated_append_is_not_applied_again(self) -> None:
        stream = StreamId("ledger", "l-1")
        events = [PendingEvent(Annotated(note=["once"]))]
        for _ in range(2):
            event_store.append(stream, events, expected=0)
            event_store.append(stream, events, expected=ANY)
        assert effects("tests.inline") == 1

    def test_projections_run_in_the_order_of_registration_with_the_events_of_one_save(self) -> None:
        SEEN.clear()
        event_store.append(StreamId("visit", "v-1"), [Came(), Paid(), Went()], expected=0)
        assert SEEN == [
            ("tests.order.first", ["Paid", "Went"]),
            ("tests.order.second", ["Came"]),
            ("tests.order.second", ["Paid"]),
        ]


class TestErrors:
    @pytest.mark.parametrize("outer", [False, True])
    def test_a_projection_that_fails_rolls_everything_back(self, outer: bool) -> None:
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

    @pytest.mark.parametrize("outer", [False, True])
    def test_a_projection_that_swallows_a_database_error_fails(self, outer: bool) -> None:
        ledger = Ledger.open("l-1")
        ledger.annotate("swallow")
        with (
            pytest.raises(StorageError, match="was caught inside the transaction") as caught,
            transaction.atomic() if outer else nullcontext(),
        ):
            Repository(Ledger).save(ledger)
        assert not caught.value.retryable
        assert (ledger.committed_version, event_store.version(ledger.stream)) == (0, 0)

    @pytest.mark.parametrize("note", AFTER_THE_COMMIT)
    def test_an_error_after_the_commit_is_not_retried(self, note: str) -> None:
        ledgers = Repository(Ledger)
        ledgers.save(Ledger.open("l-1"))
        with pytest.raises(type(AFTER_THE_COMMIT[note])):
            ledgers.execute("l-1", lambda ledger: ledger.annotate(note))
        assert ledgers.get("l-1").version == 2


class TestDefinition:
    @pytest.mark.parametrize("annotation", [Any, Sequence[Any], Sequence[Paid], Sequence[RecordedEvent[Any]]])
    def test_a_batch_of_unknown_events_is_rejected(self, annotation: Any) -> None:
        with pytest.raises(DefinitionError, match="annotate the event"):
            type("Batch", (Projection,), batch_of(annotation))

    def test_project_batch_and_marked_methods_are_exclusive(self) -> None:
        both = {**batch_of(Sequence[RecordedEvent[Paid]]), "moved": Second.moved}
        with pytest.raises(DefinitionError, match="keep one kind"):
            type("Both", (Projection,), both)

    @pytest.mark.parametrize(("mode", "partitions"), [("inline", 2), ("async", 0), ("async", "many"), ("async", True)])
    def test_invalid_partitions_are_rejected(self, mode: str, partitions: object) -> None:
        meta = type("Meta", (), {"name": "tests.parted", "mode": mode, "partitions": partitions})
        with pytest.raises(DefinitionError, match=r"Meta\.partitions"):
            type("Parted", (Projection,), {"Meta": meta})

    def test_a_missing_name_and_a_wrong_mode_are_rejected(self) -> None:
        with pytest.raises(DefinitionError, match=r"Nameless\.Meta\.name"):
            type("Nameless", (Projection,), {})
        wrong: dict[str, Any] = {"Meta": type("Meta", (), {"name": "tests.wrong", "mode": "sync"})}
        with pytest.raises(DefinitionError, match="not 'sync'"):
            type("Wrong", (Projection,), wrong)

    @pytest.mark.parametrize("models", ["bank.Balance", ["bank.Balance"], Balance, [Balance, None], 7])
    def test_invalid_models_are_rejected(self, models: object) -> None:
        meta = type("Meta", (), {"name": "tests.modelled", "models": models})
        with pytest.raises(DefinitionError, match=r"Modelled\.Meta\.models must be a list of model classes, not"):
            type("Modelled", (Projection,), {"Meta": meta, "moved": Second.moved})

    def test_a_projection_without_events_is_rejected(self) -> None:
        with pytest.raises(DefinitionError, match="Idle follows no events: mark a method with @projects"):
            type("Idle", (Projection,), {"Meta": type("Meta", (), {"name": "tests.idle"})})

    def test_a_duplicate_name_is_rejected(self) -> None:
        with pytest.raises(DefinitionError, match=r"are both named 'tests\.inline'"):
            type("Second", (Projection,), {"Meta": type("Meta", (), {"name": "tests.inline"}), "moved": Second.moved})
        assert sum(each.name == "tests.inline" for each in map(_named, hooks.inline_projections)) == 1
        assert base.registered_projections()["tests.inline"] in hooks.inline_projections
