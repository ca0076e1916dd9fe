"""Operations on a projection take effect, fail if the status forbids them, and are logged."""

import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from pytest_django import Settings

from es_django import Projection, RecordedEvent, projects
from es_django.errors import ProjectionStatusError
from es_django.models import CheckpointStatus, InboxReceipt, SkippedEvent
from es_django.projections import pause, resume, run_projection, run_projections, skip, start_rebuild
from es_django.projections.checkpoints import ensure_inline_checkpoints
from es_django.testing.memory import in_memory
from testproject.bank.models import Balance
from testproject.bank.services import deposit, open_account
from tests.projections.effects import Counted, checkpoint, count, effects, fail_at, no_mishap, position_of

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "tests.effects"


class Bystander(Projection):
    class Meta:
        name = "tests.bystander"
        mode = "async"

    @projects
    def counted(self, event: Counted, recorded: RecordedEvent) -> None:
        InboxReceipt.objects.create(consumer=self.name, message_id=str(recorded.position), status="handled")


@pytest.fixture
def _fail_at_once(settings: Settings) -> None:
    settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"MAX_ATTEMPTS": 1}}


@pytest.fixture
def failed(_fail_at_once: None) -> int:
    """Let the projection fail after two events and before two more. Return the position of the failure."""
    count(1, 2, 3, 4, 5)
    fail_at(3)
    run_projections()
    assert checkpoint().status == CheckpointStatus.FAILED
    return position_of(3)


class TestPauseAndResume:
    def test_a_paused_projection_stops_until_it_is_resumed(self) -> None:
        pause(NAME, by="Ada")
        count(1)
        assert (run_projection(NAME), checkpoint().status) == (0, CheckpointStatus.PAUSED)
        resume(NAME, by="Ada")
        assert (run_projection(NAME), effects()) == (1, 1)

    def test_a_failed_projection_continues_after_the_cause_is_fixed(self, failed: int) -> None:
        no_mishap()
        resume(NAME, by="Ada")
        assert (run_projection(NAME), effects()) == (3, 5)
        state = checkpoint()
        assert (state.status, state.last_error, state.failed_position) == (CheckpointStatus.RUNNING, "", None)

    def test_a_projection_that_is_resumed_too_early_fails_at_the_same_event(self, failed: int) -> None:
        resume(NAME, by="Ada")
        assert run_projection(NAME) == 0
        assert (checkpoint().status, checkpoint().failed_position) == (CheckpointStatus.FAILED, failed)

    def test_a_paused_inline_projection_catches_up_when_it_is_resumed(self) -> None:
        open_account("ada", owner="Ada")
        pause("balances", by="Ada")
        deposit("ada", Decimal(5))
        assert (run_projection("balances"), Balance.objects.get().balance) == (0, Decimal(0))
        resume("balances", by="Ada")
        run_projections()
        deposit("ada", Decimal(2))
        assert (Balance.objects.get().balance, checkpoint("balances").status) == (Decimal(7), CheckpointStatus.INLINE)
        with pytest.raises(ProjectionStatusError, match="cannot be resumed: it is inline"):
            resume("balances", by="Ada")

    def test_an_inline_projection_cannot_be_paused_with_an_event_store_in_memory(self) -> None:
        ensure_inline_checkpoints()
        with in_memory():
            for change in (pause, start_rebuild):
                with pytest.raises(ProjectionStatusError, match="the event store is not in the database"):
                    change("balances", by="Ada")
        assert checkpoint("balances").status == CheckpointStatus.INLINE


class TestSkip:
    def test_a_skipped_event_is_left_out_and_recorded(self, failed: int) -> None:
        skip(NAME, failed, by="Ada")
        assert (run_projection(NAME), effects()) == (2, 4)
        skipped = SkippedEvent.objects.get()
        assert (skipped.projection, skipped.position, skipped.skipped_by) == (NAME, failed, "Ada")
        assert "poison" in skipped.error

    def test_an_event_can_be_skipped_before_the_last_attempt(self) -> None:
        count(1, 2)
        fail_at(1)
        run_projection(NAME)
        skip(NAME, position_of(1), by="Ada")
        assert (run_projection(NAME), effects()) == (1, 1)

    def test_only_the_failing_event_can_be_skipped(self, failed: int) -> None:
        for position in (failed - 1, failed + 1):
            with pytest.raises(ProjectionStatusError, match="does not fail there"):
                skip(NAME, position, by="Ada")
        assert (checkpoint().status, SkippedEvent.objects.count()) == (CheckpointStatus.FAILED, 0)

    def test_other_projections_continue_beside_a_failed_one(self, failed: int) -> None:
        assert effects("tests.bystander") == 5


class TestStatus:
    @pytest.mark.parametrize(
        ("before", "operate", "message"),
        [
            (None, resume, "cannot be resumed: it is running"),
            (pause, pause, "cannot be paused: it is paused"),
        ],
    )
    def test_an_operation_that_the_status_forbids_is_an_error(
        self, before: Callable[..., None] | None, operate: Callable[..., None], message: str
    ) -> None:
        if before:
            before(NAME, by="Ada")
        with pytest.raises(ProjectionStatusError, match=message):
            operate(NAME, by="Ada")


class TestActor:
    @pytest.mark.parametrize("operate", [pause, resume, start_rebuild, lambda name, by: skip(name, 1, by=by)])
    def test_an_operator_with_a_blank_name_is_rejected(self, operate: Callable[..., None]) -> None:
        with pytest.raises(ValueError, match="by, the name of the operator, must be"):
            operate(NAME, by=" ")

    @pytest.mark.parametrize("by", [None, 7, " "])
    def test_an_operation_without_an_operator_is_rejected(self, by: Any) -> None:
        for change in (pause, resume, start_rebuild):
            with pytest.raises(ValueError, match="by, the name of the operator, must be"):
                change(NAME, by=by)

    def test_each_operation_is_logged_with_its_operator(self, failed: int, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "es_django.projections")
        skip(NAME, failed, by="Ada")
        pause(NAME, by="Bob")
        resume(NAME, by="Cyd")
        assert caplog.messages == [
            f"projection {NAME} was made to skip the event at position {failed} by Ada",
            f"projection {NAME} was paused by Bob",
            f"projection {NAME} was resumed by Cyd",
        ]
