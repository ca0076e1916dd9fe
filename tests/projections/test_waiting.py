"""Waiting ends when the projection reaches the position, or with an error that names its position."""

from typing import Any

import pytest
from asgiref.sync import async_to_sync

from es_django import event_store
from es_django.errors import ProjectionTimeout, UnknownProjection
from es_django.projections import await_for, pause, run_projection, start_rebuild, wait_for
from testproject.bank.services import open_account
from tests.projections.effects import checkpoint, count
from tests.projections.test_partitions import Parted
from tests.threads import threads

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "tests.effects"


def end() -> int:
    return event_store.read_all().position


class TestReached:
    def test_waiting_ends_when_the_projection_reaches_the_position(self) -> None:
        count(1)
        with threads(1) as submit:
            waiting = submit(wait_for, NAME, end(), 30.0)
            run_projection(NAME)
            waiting.result(30)
        assert checkpoint().position == end()

    def test_waiting_for_an_applied_position_ends_at_once(self) -> None:
        count(1)
        run_projection(NAME)
        wait_for(NAME, end(), 0)
        wait_for(NAME, timeout=0)
        count(2)
        with pytest.raises(ProjectionTimeout):
            wait_for(NAME, timeout=0)
        run_projection(NAME)
        async_to_sync(await_for)(NAME, end(), 0)

    def test_waiting_for_an_inline_projection_times_out_only_in_a_rebuild(self) -> None:
        open_account("ada", owner="Ada")
        wait_for("balances", end(), 0)
        start_rebuild("balances", by="Ada")
        with pytest.raises(ProjectionTimeout, match="status: rebuilding"):
            wait_for("balances", end(), 0)
        run_projection("balances")
        wait_for("balances", end(), 0)

    def test_waiting_ends_when_all_partitions_reach_the_position(self) -> None:
        count(1)
        run_projection(Parted.name)
        wait_for(Parted.name, end(), 0)


class TestTimeout:
    def test_the_error_names_status_and_position(self) -> None:
        count(1)
        run_projection(NAME)
        before = end()
        pause(NAME, by="Ada")
        count(2)
        with pytest.raises(ProjectionTimeout, match=f"status: paused, position {before}") as caught:
            wait_for(NAME, end(), 0.01)
        assert caught.value.retryable
        assert (caught.value.name, caught.value.position) == (NAME, end())

    def test_the_error_names_position_0_if_the_projection_has_never_run(self) -> None:
        count(1)
        with pytest.raises(ProjectionTimeout, match="status: running, position 0"):
            wait_for(NAME, end(), 0)


class TestArguments:
    def test_an_unknown_projection_is_an_error(self) -> None:
        with pytest.raises(UnknownProjection):
            wait_for("nobody", 1, 0)

    @pytest.mark.parametrize("position", ["abc", "1", -1, 1.5, True])
    def test_an_invalid_position_is_rejected(self, position: Any) -> None:
        with pytest.raises(ValueError, match="position must be an integer of at least 0"):
            wait_for(NAME, position, 0)

    @pytest.mark.parametrize("timeout", [None, "1", -1, float("nan")])
    def test_an_invalid_timeout_is_rejected(self, timeout: Any) -> None:
        with pytest.raises(ValueError, match="timeout must be a number of seconds"):
            wait_for(NAME, 1, timeout)
