from collections import Counter
from pathlib import Path

import pytest
from django.core.management import call_command

from es_django.tasks import run_projection
from testproject.helpdesk.loading import tickets
from testproject.helpdesk.models import StepCount, TicketStatus
from tests.helpdesk.logs import column, row, write_log

pytestmark = pytest.mark.django_db(transaction=True)


def load(path: Path) -> None:
    call_command("load_tickets", str(path))
    run_projection("helpdesk.steps")


def counts() -> dict[str, int]:
    return dict(StepCount.objects.values_list("name", "count"))


def open_tickets() -> set[str]:
    return set(TicketStatus.objects.filter(is_open=True).values_list("ticket", flat=True))


class TestStepCounts:
    def test_counts_match_the_steps_in_the_csv_file(self, generated_log: Path) -> None:
        load(generated_log)
        assert counts() == Counter(column(generated_log, "concept:name"))

    def test_second_load_changes_no_count(self, generated_log: Path) -> None:
        load(generated_log)
        load(generated_log)
        assert counts() == Counter(column(generated_log, "concept:name"))


class TestOpenTickets:
    def test_read_model_matches_the_aggregates(self, generated_log: Path) -> None:
        load(generated_log)
        cases = set(column(generated_log, "case:concept:name"))
        assert TicketStatus.objects.count() == len(cases)
        assert open_tickets() == {case for case in cases if tickets.get(case).is_open}
        assert 0 < len(open_tickets()) < len(cases)

    @pytest.mark.parametrize("at", ["2012-10-09T09:00:00Z", "2012-10-09T10:00:00Z"], ids=["before", "together"])
    def test_late_step_keeps_a_ticket_closed(self, at: str, tmp_path: Path) -> None:
        close, late = row(at="2012-10-09T10:00:00Z"), row(step="Wait", at=at)
        load(write_log(tmp_path / "log.csv", [close]))
        load(write_log(tmp_path / "log.csv", [late, close]))
        assert counts() == {"Closed": 1, "Wait": 1}
        assert not open_tickets()
        assert not tickets.get("Case 1").is_open

    def test_later_step_reopens_a_ticket(self, tmp_path: Path) -> None:
        close, wait = row(at="2012-10-09T10:00:00Z"), row(step="Wait", at="2012-10-09T11:00:00Z")
        load(write_log(tmp_path / "log.csv", [close, wait]))
        assert open_tickets() == {"Case 1"}
