"""The health shows lags, failures, and appends that hold the log back. A stopped runner does not look up to date."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from threading import Event as Signal
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone
from pytest_django import Settings

from es_django import Projection, outbox
from es_django.models import InboxReceipt, OutboxMessage, ProjectionCheckpoint, StoredEvent
from es_django.monitoring import health
from es_django.monitoring.health import DestinationHealth, Health, ProjectionHealth
from es_django.outbox.states import MessageState
from es_django.projections import pause, run_projections, start_rebuild
from es_django.projections.checkpoints import lock_due
from testproject.bank.services import open_account
from tests.projections.effects import Effects, count, fail_at, no_mishap, position_of
from tests.publishers import Recorder
from tests.threads import threads

pytestmark = pytest.mark.django_db(transaction=True)


def projection(found: Health, name: str = "tests.effects") -> ProjectionHealth:
    (one,) = [each for each in found.projections if each.name == name]
    return one


def destination(found: Health) -> DestinationHealth:
    (one,) = [each for each in found.destinations if each.name == "tests"]
    return one


def has_problem(found: Health, problem: str) -> bool:
    return any(re.fullmatch(problem, each) for each in found.problems)


@pytest.fixture(autouse=True)
def _one_destination(recorder: type[Recorder]) -> None:
    """Configure only the destination "tests", without those of the sample project."""


@pytest.fixture
def an_hour_ago(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that moves the stored events one hour into the past."""

    def age() -> None:
        past = timezone.now() - timedelta(hours=1)
        with transaction.atomic():
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL es_django.maintenance = 'on'")
                StoredEvent.objects.update(recorded_at=past)
            else:
                rows = list(StoredEvent.objects.all())
                StoredEvent.objects.all().delete()
                for row in rows:
                    row.recorded_at = past
                StoredEvent.objects.bulk_create(rows)

    return age


def run_projections_but(other: type[Projection]) -> None:
    ProjectionCheckpoint.objects.filter(name=other.name).update(status="paused")
    run_projections()
    ProjectionCheckpoint.objects.filter(name=other.name).update(status="running")


def send(*, delay: timedelta | None = None, **columns: Any) -> None:
    sent = outbox.send("tests", type="tests.note", data=1, delay=delay)
    OutboxMessage.objects.filter(message_id=sent).update(**columns)


HOUR = timedelta(hours=1)


def add_dead_receipts(*message_ids: str) -> None:
    for message_id in message_ids:
        InboxReceipt.objects.create(consumer="mailer", message_id=message_id, status="dead", message={})


def add_retry(due: timedelta, status: str = "retrying") -> None:
    InboxReceipt.objects.create(
        consumer="mailer", message_id=f"{due}", status=status, message={}, retry_at=timezone.now() + due
    )


def es_status(*options: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("es_status", *options, stdout=out)
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue()
    return 0, out.getvalue()


class TestLog:
    def test_an_empty_store_has_no_problem(self) -> None:
        found = health.status()
        assert (found.log.newest, found.problems) == (0, [])
        assert projection(found).lag == health.Lag(0, 0.0)

    @pytest.mark.requires_postgresql
    def test_an_append_that_holds_the_log_back_is_a_problem(self, an_hour_ago: Callable[[], None]) -> None:
        appended, go_on = Signal(), Signal()

        def append_and_wait() -> None:
            with transaction.atomic():
                count(1)
                appended.set()
                assert go_on.wait(30)

        with threads(1) as submit:
            slow = submit(append_and_wait)
            assert appended.wait(30)
            count(2, 3)
            an_hour_ago()
            run_projections()
            found = health.status()
            go_on.set()
            slow.result(30)
        assert (found.log.safe_end < found.log.newest, found.log.held_back.count) == (True, 2)
        assert "an append in flight has held the log back at position" in found.problems[0]
        assert projection(found).lag.count == 2
        assert has_problem(found, r"projection tests\.effects is 36\d\d s behind \(status: running\)")

    def test_counts_stop_at_a_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("es_django.monitoring.lag.MOST", 4)
        count(*range(1, 8))
        for _ in range(6):
            send()
        found = health.status()
        assert (projection(found).lag.count, destination(found).counts[MessageState.READY]) == (4, 4)
        OutboxMessage.objects.update(status="dead", failed_at=timezone.now())
        add_dead_receipts(*"abcdef")
        found = health.status()
        assert (destination(found).counts[MessageState.DEAD], found.dead_receipts) == (4, 4)


class TestProjections:
    def test_a_projection_that_is_up_to_date_is_not_behind(self) -> None:
        count(1, 2)
        run_projections()
        found = health.status()
        assert found.log.newest == found.log.safe_end == projection(found).position == position_of(2)
        assert (projection(found).lag.count, found.problems) == (0, [])

    def test_a_projection_without_a_runner_becomes_a_problem_after_a_while(
        self, an_hour_ago: Callable[[], None]
    ) -> None:
        count(1, 2)
        run_projections()
        count(3, 4, 5)
        assert projection(health.status()).lag.count == 3
        assert health.status().problems == []
        an_hour_ago()
        found = health.status()
        assert 3600 <= projection(found).lag.seconds < 3700
        assert has_problem(found, r"projection tests\.effects is 36\d\d s behind \(status: running\)")
        assert health.status(max_lag=4000).problems == []

    @pytest.mark.requires_postgresql
    def test_a_projection_whose_runner_hangs_is_behind(self, an_hour_ago: Callable[[], None]) -> None:
        run_projections()
        count(1)
        an_hour_ago()
        run_projections_but(Effects)
        with transaction.atomic():
            assert lock_due(Effects(), 0)
            with threads(1) as submit:
                found = submit(health.status).result(30)
        assert found.problems == [
            f"projection tests.effects is {projection(found).lag.seconds:.0f} s behind (status: running)"
        ]

    def test_a_projection_that_has_failed_is_a_problem_at_once(self, settings: Settings) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"MAX_ATTEMPTS": 1}}
        count(1)
        fail_at(1)
        run_projections()
        no_mishap()
        found = health.status()
        assert found.problems == [f"projection tests.effects has failed at position {position_of(1)}"]
        assert "poison" in projection(found).last_error

    def test_an_inline_projection_is_behind_only_in_a_rebuild(self, an_hour_ago: Callable[[], None]) -> None:
        open_account("ada", owner="Ada")
        an_hour_ago()
        found = projection(health.status(), "balances")
        assert (found.status, found.position, found.lag.count) == ("inline", None, 0)
        start_rebuild("balances", by="Ada")
        found = projection(health.status(), "balances")
        assert (found.status, found.position, found.lag.count) == ("rebuilding", 0, 1)

    def test_checkpoints_of_another_number_of_partitions_are_a_problem(self) -> None:
        ProjectionCheckpoint.objects.create(name="tests.effects", partition=1, partitions=2)
        assert health.status().problems == [
            "projection tests.effects (2 of 2) does not run: its checkpoints are for 2 partitions, but its class has 1"
        ]


class TestDestinations:
    def test_overdue_and_dead_messages_are_problems(self) -> None:
        for delay in (None, None, timedelta(days=1)):
            send(delay=delay)
        counts = destination(health.status()).counts
        assert (counts[MessageState.READY], counts[MessageState.SCHEDULED], health.status().problems) == (2, 1, [])
        OutboxMessage.objects.filter(available_at__lt=timezone.now()).update(available_at=timezone.now() - HOUR)
        found = health.status()
        assert 3600 <= destination(found).due_seconds < 3700
        assert has_problem(found, r"messages to tests have been due for 36\d\d s")
        OutboxMessage.objects.update(status="dead", failed_at=timezone.now())
        found = health.status()
        assert (destination(found).counts[MessageState.DEAD], found.problems) == (3, ["3 messages to tests are dead"])

    def test_in_flight_and_abandoned_messages_are_counted_separately(self) -> None:
        now = timezone.now()
        send(status="claimed", claimed_by="a", claimed_until=now + HOUR, attempts=1)
        send(status="claimed", claimed_by="b", claimed_until=now - HOUR, attempts=1, available_at=now - HOUR)
        found = health.status()
        counts = destination(found).counts
        assert (counts[MessageState.IN_FLIGHT], counts[MessageState.ABANDONED], counts[MessageState.READY]) == (1, 1, 0)
        assert has_problem(found, r"messages to tests have been due for 36\d\d s")

    def test_messages_that_back_off_are_a_problem_after_a_while(self) -> None:
        now = timezone.now()
        send(attempts=3, available_at=now + HOUR)
        found = health.status()
        one = destination(found)
        assert (one.counts[MessageState.BACKING_OFF], one.due_seconds, found.problems) == (1, 0.0, [])
        send(attempts=3, available_at=now + HOUR, created_at=now - HOUR)
        assert has_problem(
            health.status(), r"2 messages to tests are failing and will be retried; the oldest was written 36\d\d s ago"
        )
        assert health.status(max_lag=4000).problems == []

    @pytest.mark.parametrize(
        "columns",
        [
            {},
            {"available_at": timezone.now() + HOUR},
            {"attempts": 1, "available_at": timezone.now() + HOUR},
            {"status": "claimed", "claimed_by": "a", "claimed_until": timezone.now() + HOUR, "attempts": 1},
        ],
    )
    def test_open_messages_to_a_removed_destination_are_a_problem(
        self, columns: dict[str, Any], settings: Settings
    ) -> None:
        send(**columns)
        send(**columns)
        assert health.status().problems == []
        settings.ES_DJANGO = {"DESTINATIONS": {"others": {"PUBLISHER": "tests.publishers.Recorder"}}}
        found = health.status()
        assert [(each.name, each.is_known) for each in found.destinations] == [("others", True), ("tests", False)]
        assert has_problem(found, r'messages to tests wait, but ES_DJANGO\["DESTINATIONS"\] does not have it: .*')


class TestInbox:
    def test_dead_messages_of_the_inbox_are_a_problem(self) -> None:
        InboxReceipt.objects.create(consumer="mailer", message_id="handled", status="handled")
        assert (health.status().dead_receipts, health.status().problems) == (0, [])
        add_dead_receipts("a")
        assert health.status().problems == ["1 inbox message is dead"]
        add_dead_receipts("b", "c")
        found = health.status()
        assert (found.dead_receipts, found.problems) == (3, ["3 inbox messages are dead"])


class TestEsStatus:
    def test_the_command_exits_with_0_without_a_problem(self) -> None:
        count(1)
        run_projections()
        code, shown = es_status()
        assert code == 0
        assert "tests.effects" in shown
        assert "Problem" not in shown

    def test_the_command_exits_with_1_and_prints_the_problem(self, an_hour_ago: Callable[[], None]) -> None:
        count(1)
        an_hour_ago()
        code, shown = es_status()
        assert code == 1
        assert re.search(r"Problem: projection tests\.effects is 36\d\d s behind \(status: running\)", shown)
        assert es_status("--max-lag", "4000")[0] == 0

    def test_control_characters_of_an_error_are_not_printed(self) -> None:
        count(1)
        pause("tests.effects", by="Ada")
        ProjectionCheckpoint.objects.filter(name="tests.effects").update(last_error="a\x1b]0;b\x07\x9bc")
        shown = es_status()[1]
        assert "a]0;bc" in shown
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown)

    def test_the_option_json_prints_json(self) -> None:
        count(1)
        pause("tests.effects", by="Ada")
        code, shown = es_status("--format", "json")
        printed: dict[str, Any] = json.loads(shown)
        assert (code, printed["log"]["newest"], printed["problems"]) == (0, position_of(1), [])
        (one,) = [each for each in printed["projections"] if each["name"] == "tests.effects"]
        assert (one["status"], one["lag"]["count"]) == ("paused", 1)

    def test_messages_are_counted_by_state(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "120")
        send()
        send(attempts=2, available_at=timezone.now() + HOUR)
        shown = es_status()[1]
        columns = next(line for line in shown.splitlines() if "in flight" in line)
        assert re.split(r"\s*[┃|]\s*", columns)[1:-1] == [
            "destination",
            *("ready", "scheduled", "backing off", "in flight", "abandoned", "dead"),
            *("due for", "failing for"),
        ]
        row = next(line for line in shown.splitlines() if re.match(r"[│|] tests ", line))
        cells = re.split(r"\s*[│|]\s*", row)[1:-1]
        assert cells[:7] == ["tests", "1", "0", "1", "0", "0", "0"]
        assert all(re.fullmatch(r"0\.\d s", cell) for cell in cells[7:])

    def test_dead_messages_of_the_inbox_are_counted(self) -> None:
        assert "Inbox: 0 dead" in es_status()[1]
        add_dead_receipts("a", "b")
        code, shown = es_status()
        assert (code, "Inbox: 2 dead" in shown, "Problem: 2 inbox messages are dead" in shown) == (1, True, True)

    def test_a_database_that_does_not_answer_is_reported_on_one_line_with_exit_code_1(self) -> None:
        nowhere = "sqlite:////nowhere/at/all.sqlite3"
        if connection.vendor == "postgresql":
            nowhere = "postgres://nobody@127.0.0.1:1/nothing"
        commands = (
            ["es_status"],
            ["es_rebuild", "statements", "--skip-checks"],
            ["es_project", "--once", "--skip-checks"],
        )
        for options in commands:
            ended = subprocess.run(
                [sys.executable, "manage.py", *options],
                cwd=django_settings.BASE_DIR,
                env={**os.environ, "DATABASE_URL": nowhere},
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1), ended.stderr

    @pytest.mark.parametrize("wrong", ["nan", "inf", "0", "-1"])
    def test_an_invalid_lag_is_rejected(self, wrong: str) -> None:
        with pytest.raises(CommandError, match="--max-lag must be more than 0 seconds"):
            es_status(f"--max-lag={wrong}")


class TestRetries:
    def test_fault_e2_a_retry_that_no_sweep_hands_over_is_a_problem(self) -> None:
        add_retry(HOUR)
        assert health.status().problems == []
        add_retry(-HOUR)
        (problem,) = health.status().problems
        assert problem.startswith("1 inbox message has been due for its retry for more than 60 s: does Celery beat run")

    def test_fault_e1_a_lost_handler_that_no_sweep_finds_is_a_problem(self) -> None:
        add_retry(-HOUR, "handling")
        assert health.status().problems == []
        add_retry(-2 * HOUR, "handling")
        assert "1 inbox message has been due" in health.status().problems[0]
