"""A sweep of an idle project costs one query, and a sweep with work does it."""

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from es_django import NO_STREAM, StreamId, event_store, outbox
from es_django.models import CheckpointStatus, OutboxMessage, ProjectionCheckpoint
from es_django.projections.idleness import has_work
from es_django.projections.runner import run_projections as run
from es_django.tasks import relay_outbox, retry_handlers, run_projections
from tests.outbox.published import Announced
from tests.publishers import Recorder

pytestmark = pytest.mark.django_db(transaction=True)


def append() -> None:
    event_store.append(StreamId("notices", "n-1"), [Announced(text="news")], expected=NO_STREAM)


class TestIdleSweeps:
    @pytest.mark.parametrize("sweep", [relay_outbox, run_projections, retry_handlers])
    def test_fault_f7_a_sweep_of_an_idle_project_costs_one_query(
        self, sweep: Callable[[], None], recorder: type[Recorder]
    ) -> None:
        append()
        relay_outbox()
        run_projections()
        assert OutboxMessage.objects.get().status == "published"
        with CaptureQueriesContext(connection) as queries:
            sweep()
        assert len(queries) == 1, [each["sql"] for each in queries]

    @pytest.mark.parametrize("status", ["pending", "claimed"])
    def test_fault_f7_an_open_message_is_relayed(self, status: str, recorder: type[Recorder]) -> None:
        outbox.send("tests", type="noted", data=1)
        relay_outbox()
        assert OutboxMessage.objects.get().status == "published"


@pytest.mark.usefixtures("recorder")
class TestIdleProjections:
    def test_fault_f7_a_new_event_is_work(self) -> None:
        run()
        assert not has_work()
        append()
        assert has_work()
        run()
        assert not has_work()

    def test_fault_f7_a_projection_that_never_ran_is_work(self) -> None:
        assert has_work()

    def test_fault_f7_a_rebuild_is_work(self) -> None:
        run()
        ProjectionCheckpoint.objects.filter(pk=ProjectionCheckpoint.objects.values("pk")[:1]).update(
            status=CheckpointStatus.REBUILDING, side_effects=[]
        )
        assert has_work()

    @pytest.mark.parametrize("status", [CheckpointStatus.PAUSED])
    def test_fault_f7_projections_that_do_not_run_are_no_work(self, status: CheckpointStatus) -> None:
        run()
        ProjectionCheckpoint.objects.update(status=status)
        append()
        assert not has_work()

    def test_fault_f7_a_projection_whose_checkpoints_do_not_fit_is_left_to_the_runner(self) -> None:
        run()
        ProjectionCheckpoint.objects.update(partitions=7)
        assert has_work()
