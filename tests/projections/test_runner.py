"""Asynchronous projections apply each event once, whatever fails."""

from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from uuid import uuid4

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from es_django import Projection, RecordedEvent, Repository, StreamId, event_store, projects
from es_django.errors import StorageError, UnknownProjection
from es_django.models import CheckpointStatus, InboxReceipt, ProjectionCheckpoint, StoredEvent, Stream
from es_django.projections import run_projection, run_projections, skip
from es_django.projections.checkpoints import ensure_checkpoints, lock_due
from es_django.projections.failure_policy import record_failure
from es_django.store.backends import store_for
from tests.domain import Deposited, Ledger
from tests.projections.effects import (
    Counted,
    Effects,
    checkpoint,
    count,
    effects,
    fail_at,
    fail_with,
    let_pauses_end,
    no_mishap,
    position_of,
)
from tests.threads import threads

pytestmark = pytest.mark.django_db(transaction=True)


class Careless(Projection):
    """A projection that catches a database error that broke the transaction, and continues."""

    class Meta:
        name = "tests.careless"
        mode = "async"

    @projects
    def counted(self, event: Counted, recorded: RecordedEvent) -> None:
        if event.number == 13:
            swallow_an_error(self.name)


class Batches(Projection):
    class Meta:
        name = "tests.batches"
        mode = "async"

    sizes: list[int] = []
    poison = 0

    def project_batch(self, events: Sequence[RecordedEvent[Counted]]) -> None:
        if self.poison in [recorded.event.number for recorded in events]:
            raise ValueError("poison")
        self.sizes.append(len(events))
        InboxReceipt.objects.bulk_create(
            InboxReceipt(consumer=self.name, message_id=str(recorded.position), status="handled") for recorded in events
        )


@pytest.fixture(autouse=True)
def _no_batches() -> None:
    Batches.sizes.clear()
    Batches.poison = 0


def swallow_an_error(consumer: str) -> None:
    with suppress(IntegrityError):
        InboxReceipt.objects.create(consumer=consumer, message_id="", status="handled")


class Lost(Projection):
    """A projection of events that a test makes undecodable."""

    class Meta:
        name = "tests.lost"
        mode = "async"

    @projects
    def deposited(self, event: Deposited, recorded: RecordedEvent) -> None:
        InboxReceipt.objects.create(consumer=self.name, message_id=str(recorded.position), status="handled")


class TestCatchUp:
    def test_each_event_of_the_log_is_applied_once(self) -> None:
        count(1, 2, 3)
        assert effects() == 0
        assert run_projection("tests.effects") == 3
        assert run_projection("tests.effects") == 0
        count(4)
        assert run_projection("tests.effects") == 1
        assert effects() == 4

    def test_events_of_other_classes_advance_the_checkpoint(self) -> None:
        count(1)
        Repository(Ledger).save(Ledger.open("l-1"))
        run_projection("tests.effects")
        assert checkpoint().position == event_store.read_all().position

    def test_a_projection_fetches_only_events_of_its_classes(self) -> None:
        count(1)
        Repository(Ledger).save(Ledger.open("l-1"))
        with CaptureQueriesContext(connection) as captured:
            run_projection("tests.effects")
        (fetched,) = {query["sql"] for query in captured if "event.data" in query["sql"]}
        assert "tests.counted" in fetched
        assert "tests.ledger_opened" not in fetched

    def test_project_batch_gets_a_whole_batch_in_one_call(self, settings: Settings) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"BATCH_SIZE": 4}}
        count(*range(1, 11))
        assert run_projection("tests.batches") == 10
        assert Batches.sizes == [4, 4, 2]

    def test_an_unknown_projection_is_an_error(self) -> None:
        with pytest.raises(UnknownProjection, match="no projection is named"):
            run_projection("tests.nobody")


class TestSeveral:
    def test_a_projection_with_a_long_lag_does_not_starve_the_others(self, settings: Settings) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"BATCH_SIZE": 2}}
        count(*range(1, 10))
        run_projections(seconds=0)
        assert (effects("tests.batches"), effects("tests.effects")) == (2, 2)
        run_projections(seconds=0)
        assert (effects("tests.batches"), effects("tests.effects")) == (4, 4)

    @pytest.mark.requires_postgresql
    def test_a_second_runner_skips_a_locked_checkpoint(self) -> None:
        count(1, 2)
        ensure_checkpoints(Effects())
        with transaction.atomic():
            ProjectionCheckpoint.objects.select_for_update().get(name="tests.effects")
            with threads(1) as submit:
                assert submit(run_projection, "tests.effects").result(10) == 0
        assert run_projection("tests.effects") == 2


class TestFindingThePoisonEvent:
    def test_all_events_before_the_poison_event_are_applied(self) -> None:
        count(*range(1, 101))
        Batches.poison = 61
        assert run_projection("tests.batches") == 60
        state = checkpoint("tests.batches")
        assert (effects("tests.batches"), state.failed_position, state.attempts) == (60, position_of(61), 1)
        Batches.poison = 0
        let_pauses_end()
        assert run_projection("tests.batches") == 40
        assert Batches.sizes[-2:] == [1, 39], "the failed event is retried alone, the later ones together"
        assert checkpoint("tests.batches").last_error == ""

    def test_the_poison_event_is_found_in_runs_of_one_batch(
        self,
        settings: Settings,
    ) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"MAX_ATTEMPTS": 1}}
        count(*range(1, 101))
        Batches.poison = 61
        run_projection("tests.batches", seconds=0)
        state = checkpoint("tests.batches")
        assert (state.failed_position, state.failing_until) == (None, position_of(100))
        assert "poison" in state.last_error, "the error must be visible before the poison event is found"
        for _ in range(9):
            run_projection("tests.batches", seconds=0)
        state = checkpoint("tests.batches")
        assert (state.status, state.failed_position) == (CheckpointStatus.FAILED, position_of(61))
        assert effects("tests.batches") == 60

    def test_a_failed_batch_is_retried_in_smaller_batches(self) -> None:
        count(*range(1, 9))
        Batches.poison = 8
        run_projection("tests.batches", seconds=0)
        Batches.poison = 0
        assert run_projection("tests.batches") == 8
        assert Batches.sizes == [4, 2, 1, 1]
        count(9, 10, 11)
        run_projection("tests.batches")
        assert (Batches.sizes[4:], checkpoint("tests.batches").last_error) == ([3], "")


class TestFailedEvent:
    def test_a_poison_event_stops_the_projection_visibly(self, settings: Settings) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"MAX_ATTEMPTS": 3, "BACKOFF": {"base": 3600}}}
        count(1, 2, 3, 4)
        poison = position_of(3)
        fail_at(3)
        for attempts in (1, 2, 3):
            run_projections()
            state = checkpoint()
            assert (effects(), state.attempts, state.failed_position) == (2, attempts, poison)
            assert state.status == (CheckpointStatus.FAILED if attempts == 3 else CheckpointStatus.RUNNING)
            assert "poison" in state.last_error
            assert run_projection("tests.effects") == 0, "the projection must wait until the retry is due"
            let_pauses_end()
        no_mishap()
        assert run_projection("tests.effects") == 0, "the projection must stay failed until an operator decides"

    def test_an_unreadable_event_stops_only_its_projection(self) -> None:
        event_store.append(StreamId("ledger", "l-1"), [Deposited(amount=Decimal(1))], expected=0)
        stream = Stream.objects.create(category="ledger", key="l-2", version=1)
        unreadable = StoredEvent.objects.create(
            stream=stream,
            version=1,
            type="tests.deposited",
            schema_version=1,
            data={"amount": []},
            metadata={},
            event_id=uuid4(),
            recorded_at=timezone.now(),
        )
        event_store.append(StreamId("ledger", "l-3"), [Deposited(amount=Decimal(1))], expected=0)
        count(1)
        run_projections()
        state = checkpoint("tests.lost")
        assert (effects("tests.lost"), state.failed_position, state.attempts) == (1, unreadable.position, 1)
        assert "UndecodableEvent" in state.last_error
        assert effects() == 1
        skip("tests.lost", unreadable.position, by="Ada")
        run_projections()
        assert effects("tests.lost") == 2

    def test_a_swallowed_database_error_is_a_failure(self) -> None:
        count(12, 13)
        assert run_projection("tests.careless") == 1
        state = ProjectionCheckpoint.objects.get(name="tests.careless")
        assert "was caught inside the transaction" in state.last_error
        assert state.failed_position == event_store.read_all().position

    @pytest.mark.parametrize("error", [SystemExit("usage: ..."), GeneratorExit()])
    def test_a_projection_that_raises_an_exit_exception_has_failed(
        self, error: BaseException, settings: Settings
    ) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"MAX_ATTEMPTS": 2}}
        count(1)
        fail_with(error)
        for status in (CheckpointStatus.RUNNING, CheckpointStatus.FAILED):
            run_projections()
            assert (checkpoint().status, checkpoint().failed_position) == (status, position_of(1))
            let_pauses_end()
        assert type(error).__name__ in checkpoint().last_error
        assert effects("tests.batches") == 1

    def test_a_retryable_error_is_retried_forever(self, settings: Settings) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"MAX_ATTEMPTS": 1}}
        count(1)

        fail_with(ConnectionError("for now"))
        for attempts in (1, 2, 3):
            run_projections()
            assert (checkpoint().status, checkpoint().attempts) == (CheckpointStatus.RUNNING, attempts)
            let_pauses_end()
        no_mishap()
        assert run_projection("tests.effects") == 1

    def test_a_projection_that_recovers_continues(self) -> None:
        count(1, 2, 3)
        fail_at(2)
        run_projection("tests.effects")
        no_mishap()
        let_pauses_end()
        assert run_projection("tests.effects") == 2
        state = checkpoint()
        assert (effects(), state.attempts, state.last_error, state.failed_position) == (3, 0, "", None)


class TestRecordFailure:
    def test_a_failure_that_two_runners_report_is_counted_once(self) -> None:
        count(1, 2)
        fail_at(1)
        run_projection("tests.effects")
        let_pauses_end()
        before = checkpoint()
        for attempts in (2, 2):
            assert not record_failure(before, [position_of(1)], ValueError("poison"))
            assert checkpoint().attempts == attempts
        skip("tests.effects", position_of(1), by="Ada")
        record_failure(before, [position_of(1)], ValueError("poison"))
        assert (checkpoint().attempts, checkpoint().last_error) == (0, ""), (
            "a late failure must not stop a projection that has continued"
        )

    @pytest.mark.requires_postgresql
    def test_a_locked_checkpoint_is_left_to_its_runner(self) -> None:
        count(1)
        ensure_checkpoints(Effects())
        before = checkpoint()
        with transaction.atomic():
            assert lock_due(Effects(), 0)
            with threads(1) as submit:
                assert submit(record_failure, before, [position_of(1)], ValueError("poison")).result(30) is False
        assert checkpoint().attempts == 0


class TestErrorsOutsideOfEvents:
    def test_a_database_error_is_not_a_failure_of_the_event(self, monkeypatch: pytest.MonkeyPatch) -> None:
        count(1)
        fail_at(1)
        run_projection("tests.effects")
        let_pauses_end()

        def fail(*args: object) -> None:
            raise OperationalError("the database is locked")

        monkeypatch.setattr("es_django.projections.runner.lock_due", fail)
        with pytest.raises(StorageError, match="locked"):
            run_projection("tests.effects")
        assert (checkpoint().attempts, checkpoint().failed_position) == (1, position_of(1))

    @pytest.mark.parametrize(
        "error", [StorageError("read the log", False, "repeatable read"), ImproperlyConfigured("no")]
    )
    def test_an_error_that_belongs_to_no_event_is_raised_and_not_counted(
        self, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        count(1)
        ensure_checkpoints(Effects())

        def fail(**options: object) -> None:
            raise error

        monkeypatch.setattr(store_for(), "read_all", fail)
        with pytest.raises(type(error)):
            run_projection("tests.effects")
        assert run_projections() == 0
        assert "projection tests.effects could not be run" in caplog.text
        state = checkpoint()
        assert (state.attempts, state.failed_position, state.retry_at, state.status) == (
            0,
            None,
            None,
            CheckpointStatus.RUNNING,
        )

    @pytest.mark.requires_postgresql
    def test_an_unreadable_log_is_not_a_failure_of_a_projection(self) -> None:
        count(1)
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_isolation TO 'repeatable read'")
        try:
            with pytest.raises(StorageError, match="repeatable read"):
                run_projection("tests.effects")
        finally:
            connection.close()
        assert (checkpoint().attempts, checkpoint().last_error) == (0, "")

    def test_a_keyboard_interrupt_is_not_a_failure_of_the_event(self) -> None:
        count(1)
        fail_with(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run_projection("tests.effects")
        assert (checkpoint().attempts, checkpoint().position) == (0, 0)
