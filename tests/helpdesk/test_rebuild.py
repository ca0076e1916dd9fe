"""A rebuild of the help desk's read model while tickets are loaded gives the same rows as a rebuild afterwards."""

from io import StringIO
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from django.core.management import call_command

from es_django.projections import run_projection
from testproject.helpdesk.models import StepCount, TicketStatus
from tests.helpdesk.logs import generated_rows, write_log
from tests.processes import run_processes

pytestmark = pytest.mark.django_db(transaction=True)


def load_or_rebuild(barrier: Barrier, path: Path | None) -> None:
    barrier.wait()
    if path is None:
        for _ in range(2):
            call_command("es_rebuild", "helpdesk.steps", stdout=StringIO())
    else:
        call_command("load_tickets", str(path), stdout=StringIO())


def read_model() -> list[object]:
    counts = list(StepCount.objects.order_by("name").values())
    return [counts, list(TicketStatus.objects.order_by("ticket").values())]


class TestRebuild:
    def test_rebuild_during_a_load_equals_a_rebuild_from_scratch(self, tmp_path: Path) -> None:
        first = write_log(tmp_path / "first.csv", generated_rows(30))
        whole = write_log(tmp_path / "whole.csv", generated_rows(150))
        call_command("load_tickets", str(first), stdout=StringIO())
        run_projection("helpdesk.steps")
        TicketStatus.objects.create(ticket="of no case", latest_at="2012-01-01T00:00Z", is_open=True)

        run_processes(load_or_rebuild, [(whole,), (None,)])
        run_projection("helpdesk.steps", seconds=60)
        beside = read_model()

        call_command("es_rebuild", "helpdesk.steps", stdout=StringIO())
        assert beside == read_model()
        assert TicketStatus.objects.count() == 150
