"""Events, snapshot, messages and read model are stored in one commit. If any part fails, nothing is stored."""

from contextlib import nullcontext
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import transaction

from es_django import (
    Aggregate,
    ConcurrencyError,
    Event,
    Message,
    Projection,
    RecordedEvent,
    Repository,
    StagedEvent,
    StorageError,
    applies,
    event_store,
    outbox,
    projects,
    publishes,
)
from es_django.errors import DuplicateMessage
from es_django.models import InboxReceipt
from es_django.testing import outbox_messages
from tests.conformance.tampering import snapshot_version

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("backend", "recorder")]


class Posted(Event):
    text: str
    message_id: UUID | None = None

    class Meta:
        name = "tests.posted"


class Board(Aggregate):
    texts: list[str] = []

    class Meta:
        snapshot_every = 2

    def post(self, text: str, message_id: UUID | None = None) -> None:
        self.record(Posted(text=text, message_id=message_id))

    @applies
    def _posted(self, event: Posted) -> None:
        self.texts.append(event.text)


@publishes(Posted, destination="tests")
def tell(staged: StagedEvent[Posted]) -> Message:
    return Message(type="posted", data=staged.event.text, message_id=staged.event.message_id or uuid4())


class Posts(Projection):
    """Write a row for each event, to a table that has a unique key."""

    class Meta:
        name = "tests.posts"

    @projects
    def posted(self, event: Posted, recorded: RecordedEvent) -> None:
        if event.text == "unbearable":
            raise ValueError("it cannot be shown")
        if not event.text.startswith("unshown"):
            InboxReceipt.objects.create(consumer=self.name, message_id=event.text, status="handled")


boards = Repository(Board)


def board(*texts: str, key: str = "b-1") -> Board:
    board = Board(key)
    for text in texts:
        board.post(text)
    return board


def stored(key: str = "b-1") -> tuple[list[str], list[Any], int | None]:
    """Return the events, messages and snapshot of a board."""
    events = [recorded.event.text for recorded in boards.history(key) if isinstance(recorded.event, Posted)]
    messages = [each.data for each in outbox_messages() if each.stream == Board(key).stream]
    return events, messages, snapshot_version(Board(key).stream)


def shown() -> list[str]:
    return sorted(InboxReceipt.objects.filter(consumer="tests.posts").values_list("message_id", flat=True))


NOTHING: tuple[list[str], list[Any], int | None] = ([], [], None)


class TestWholeCommit:
    def test_every_part_is_rolled_back_with_its_transaction_and_stored_by_the_next_save(self) -> None:
        news = board("unshown one", "unshown two")
        with pytest.raises(KeyError), event_store.transaction():
            boards.save(news)
            assert stored() == (["unshown one", "unshown two"], ["unshown one", "unshown two"], 2)
            raise KeyError
        assert stored() == NOTHING
        boards.save(news)
        assert stored() == (["unshown one", "unshown two"], ["unshown one", "unshown two"], 2)

    @pytest.mark.database_alone
    def test_the_read_model_is_committed_with_the_events(self) -> None:
        news = board("one", "two")
        with pytest.raises(KeyError), transaction.atomic():
            boards.save(news)
            assert shown() == ["one", "two"]
            raise KeyError
        assert (stored(), shown()) == (NOTHING, [])
        boards.save(news)
        assert (stored(), shown()) == ((["one", "two"], ["one", "two"], 2), ["one", "two"])


class TestProjectionFailure:
    def test_nothing_is_written_if_an_inline_projection_raises(self) -> None:
        news = board("unshown", "unbearable")
        with pytest.raises(ValueError, match="cannot be shown"):
            boards.save(news)
        assert stored() == NOTHING
        assert (news.committed_version, len(news.pending_events)) == (0, 2)

    @pytest.mark.database_alone
    @pytest.mark.parametrize("around", ["nothing", "a transaction", "a savepoint"])
    def test_nothing_is_written_if_a_constraint_rejects_a_later_row_of_the_read_model(self, around: str) -> None:
        news = board("same", "same")
        with transaction.atomic() if around != "nothing" else nullcontext():
            with (
                pytest.raises(StorageError) as caught,
                transaction.atomic() if around == "a savepoint" else nullcontext(),
            ):
                boards.save(news)
            assert not caught.value.retryable
            assert (stored(), shown()) == (NOTHING, []), "and the caller's transaction can go on"
        assert (stored(), shown()) == (NOTHING, [])
        assert (news.committed_version, len(news.pending_events)) == (0, 2)


class TestDuplicateMessage:
    @pytest.mark.parametrize("at_once", [True, False], ids=["twice in one commit", "stored before"])
    @pytest.mark.parametrize("outer", [True, False], ids=["in a transaction", "alone"])
    def test_nothing_is_written_if_a_message_id_is_taken_and_the_error_names_it(
        self, outer: bool, at_once: bool
    ) -> None:
        taken = uuid4()
        if not at_once:
            outbox.send("tests", type="noted", data=None, message_id=taken)
        news = Board("b-1")
        news.post("unshown one", taken)
        news.post("unshown two", taken if at_once else None)
        with pytest.raises(DuplicateMessage) as caught, event_store.transaction() if outer else nullcontext():
            boards.save(news)
        assert list(caught.value.message_ids) == [taken]
        assert str(taken) in str(caught.value)
        assert stored() == NOTHING
        assert len(outbox_messages()) == (0 if at_once else 1)
        assert len(news.pending_events) == 2

    def test_nothing_is_written_if_two_saves_of_a_transaction_share_a_message_id(self) -> None:
        taken = uuid4()
        first, second = Board("b-1"), Board("b-2")
        first.post("unshown", taken)
        second.post("unshown", taken)
        with pytest.raises(DuplicateMessage) as caught, event_store.transaction():
            boards.save(first)
            boards.save(second)
        assert list(caught.value.message_ids) == [taken]
        assert (stored("b-1"), stored("b-2")) == (NOTHING, NOTHING)
        assert (len(first.pending_events), len(second.pending_events)) == (1, 1)


class TestConflict:
    def test_a_stale_save_stores_neither_event_nor_message(self) -> None:
        boards.save(board("unshown"))
        stale = boards.get("b-1")
        boards.execute("b-1", lambda board: board.post("unshown too"))
        before = stored()
        stale.post("unshown late")
        with pytest.raises(ConcurrencyError):
            boards.save(stale)
        assert stored() == before

    @pytest.mark.parametrize("key", ["a-new", "z-new"])
    def test_a_conflict_on_one_stream_writes_no_snapshot_of_another_stream(self, key: str) -> None:
        boards.save(board("unshown", key="m-stale"))
        stale, new = boards.get("m-stale"), board("unshown one", "unshown two", key=key)
        boards.execute("m-stale", lambda board: board.post("unshown meanwhile"))
        stale.post("unshown late")
        for pair in ([stale, new], [new, stale]):
            with pytest.raises(ConcurrencyError):
                boards.save_all(pair)
            assert stored(key) == NOTHING
            assert (stale.committed_version, len(stale.pending_events)) == (1, 1)
            assert (new.committed_version, len(new.pending_events)) == (0, 2)
