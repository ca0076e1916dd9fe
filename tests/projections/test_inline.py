"""Inline projections run in the transaction that stores the events."""

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial

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
from es_django.models import InboxReceipt
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
                assert not Repository(Ledger).exists("l-1"), "the caller's transaction must continue without the append"
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
