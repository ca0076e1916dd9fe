"""Whatever could make readers skip events is an error for readers, and a problem for operators. No page is empty."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import Max
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from es_django import ANY, Event, StorageError, StreamId, event_store
from es_django.audit import Audit
from es_django.errors import LogOutOfOrder
from es_django.models import StoredEvent
from es_django.monitoring.health import status

pytestmark = pytest.mark.django_db

SEQUENCE = "es_django_event_position_seq"
STREAM = StreamId("log-order", "1")
END = 2**47


class Ordered(Event):
    class Meta:
        name = "log-order.ordered"


def append(events: int = 1) -> list[int]:
    return [each.position for each in event_store.append(STREAM, [Ordered()] * events, expected=ANY)]


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def newest() -> int:
    return int(StoredEvent.objects.aggregate(newest=Max("position"))["newest"])


def restart(position: int) -> None:
    """Set the sequence so that it draws `position` next. Unlike `setval`, the rollback of the test undoes this."""
    execute(f"ALTER SEQUENCE {SEQUENCE} RESTART WITH {position}")


def require_error_everywhere(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LogOutOfOrder, match=text) as caught:
        event_store.read_all()
    assert not caught.value.retryable
    assert [text in problem for problem in status().problems].count(True) == 1
    with pytest.raises(SystemExit):
        call_command("es_status")
    assert "Problem: the log cannot be trusted" in capsys.readouterr().out
    assert any(finding.kind == "sequence" and text in finding.text for finding in Audit().findings())
    assert any(message.id == "es_django.E040" and text in message.msg for message in run_checks(databases=["default"]))


def require_no_error() -> None:
    assert event_store.read_all().events
    assert status().log.error == ""
    assert [finding for finding in Audit().findings() if finding.kind == "sequence"] == []
    assert [message for message in run_checks(databases=["default"]) if message.id == "es_django.E040"] == []


PROPERTIES = {
    "CACHE 20": "CACHE 20",
    "INCREMENT 10": "INCREMENT BY 10",
    "INCREMENT -1": "INCREMENT BY -1",
    "CYCLE": "CYCLE",
    "below 0": "MINVALUE -100 RESTART WITH -50",
}


@pytest.mark.requires_postgresql
class TestPostgresql:
    def test_fault_a8_a_healthy_sequence_is_no_problem(self) -> None:
        append(3)
        require_no_error()

    @pytest.mark.parametrize("behind", [1, 1000])
    def test_fault_a8_a_sequence_behind_the_table_is_an_error(
        self, behind: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        restart(5000)
        append(3)
        restart(5002 - behind)
        execute(f"SELECT nextval('{SEQUENCE}')")
        require_error_everywhere("is stored: set it to 5002", capsys)

    def test_fault_a8_a_sequence_that_never_drew_is_an_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        append(3)
        restart(1)
        require_error_everywhere(f"is at 0, but {newest()} is stored", capsys)

    def test_fault_a8_an_append_with_a_sequence_behind_the_table_names_the_remedy(self) -> None:
        (first, _) = append(2)
        restart(first)
        with pytest.raises(LogOutOfOrder, match=r"run manage\.py es_verify"), transaction.atomic():
            append()

    @pytest.mark.parametrize("text", PROPERTIES)
    def test_fault_a8_a_sequence_that_draws_out_of_order_is_an_error(
        self, text: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        append(3)
        execute(f"ALTER SEQUENCE {SEQUENCE} {PROPERTIES[text]}")
        if text != "below 0":
            execute(f"SELECT nextval('{SEQUENCE}')")
        require_error_everywhere("is stored" if text == "below 0" else f"has {text}", capsys)

    def test_fault_a8_a_renamed_sequence_is_an_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        append()
        execute(f"ALTER SEQUENCE {SEQUENCE} RENAME TO other_seq")
        require_error_everywhere(f"has no sequence {SEQUENCE}", capsys)
        with pytest.raises(StorageError, match=SEQUENCE), transaction.atomic():
            append()

    def test_fault_a8_positions_from_another_sequence_are_an_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        append()
        execute(
            f"ALTER SEQUENCE {SEQUENCE} RENAME TO other_seq",
            f"CREATE SEQUENCE {SEQUENCE} START 1000",
            f"SELECT nextval('{SEQUENCE}')",
        )
        require_error_everywhere("does not draw its numbers from the sequence", capsys)

    def test_fault_a8_an_unlogged_table_is_an_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        append()
        execute("SET CONSTRAINTS ALL IMMEDIATE", "ALTER TABLE es_django_event SET UNLOGGED")
        require_error_everywhere("a crash resets it", capsys)

    def test_fault_a8_the_last_position_is_the_last_that_a_floor_can_carry(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        restart(END - 1)
        assert append() == [END - 1]
        require_no_error()
        with pytest.raises(LogOutOfOrder, match=r"end at 2\^47"), transaction.atomic():
            append()
        require_error_everywhere("where numbers end", capsys)

    @pytest.mark.parametrize("position", [END, 2**49, 2**62])
    def test_fault_a8_positions_beyond_the_floors_are_refused_when_they_are_drawn(self, position: int) -> None:
        append()
        restart(position)
        with pytest.raises(LogOutOfOrder, match=r"end at 2\^47"), transaction.atomic():
            append()

    def test_fault_a8_reading_the_log_costs_no_further_statement(self, settings: Settings) -> None:
        append()
        with CaptureQueriesContext(connection) as captured:
            event_store.read_all()
        assert len(captured) == 3

    def test_fault_a8_a_role_with_rights_on_the_tables_alone_gets_an_error(self) -> None:
        append(2)
        with role_with_rights_on_tables():
            with pytest.raises(LogOutOfOrder, match=f"GRANT USAGE, SELECT ON SEQUENCE {SEQUENCE}"):
                event_store.read_all()
            assert any("GRANT USAGE" in problem for problem in status().problems)
            assert any("GRANT USAGE" in message.msg for message in run_checks(databases=["default"]))
            assert any("GRANT USAGE" in finding.text for finding in Audit().findings())
            execute("SET LOCAL es_django.floors = ''")  # as in a transaction of its own
            with pytest.raises(StorageError, match="USAGE on their sequences") as caught, transaction.atomic():
                append()
            assert not caught.value.retryable

    @pytest.mark.parametrize("right", ["USAGE", "SELECT"])
    def test_fault_a8_one_right_on_the_sequence_is_enough(self, right: str) -> None:
        append(2)
        with role_with_rights_on_tables(f"GRANT {right} ON ALL SEQUENCES IN SCHEMA public TO es_django_reader"):
            append()
            assert len(event_store.read_all().events) == 3

    @pytest.mark.parametrize("table", ["es_django_outboxmessage", "es_django_stream"])
    def test_fault_a8_an_audit_finds_sequences_of_other_tables_that_draw_out_of_order(self, table: str) -> None:
        execute(f"ALTER SEQUENCE {table}_id_seq CACHE 10")
        assert [finding.text for finding in Audit().findings()] == [
            f"the sequence {table}_id_seq has CACHE 10: ALTER SEQUENCE {table}_id_seq CACHE 1"
        ]


@contextmanager
def role_with_rights_on_tables(*more: str) -> Iterator[None]:
    """Use a role that may use the tables but not their sequences. The rollback of the test drops the role."""
    execute(
        "CREATE ROLE es_django_reader",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO es_django_reader",
        *more,
        "SET LOCAL ROLE es_django_reader",
    )
    try:
        yield
    finally:
        execute("RESET ROLE")


class TestConstraint:
    @pytest.mark.parametrize("position", [0, -1, END])
    def test_fault_a8_a_position_that_no_reader_would_see_cannot_be_stored(self, position: int) -> None:
        append()
        event = StoredEvent.objects.get()
        event.position, event.version, event.event_id = position, 2, EVENT_ID
        with pytest.raises(Exception, match="es_django_event_position_fits"), transaction.atomic():
            event.save(force_insert=True)


EVENT_ID = "0190a1b2-0000-7000-8000-000000000000"


@pytest.mark.requires_sqlite
class TestSqlite:
    def test_fault_a8_a_healthy_sequence_is_no_problem(self) -> None:
        append(3)
        require_no_error()

    @pytest.mark.parametrize(
        "damage",
        [
            "DELETE FROM sqlite_sequence WHERE name = 'es_django_event'",
            "UPDATE sqlite_sequence SET seq = 1 WHERE name = 'es_django_event'",
        ],
        ids=["missing", "behind"],
    )
    def test_fault_a8_a_sequence_that_was_not_restored_is_an_error(
        self, damage: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        append(3)
        execute(damage)
        require_error_everywhere(f"but {newest()} is stored", capsys)

    def test_fault_a8_the_highest_position_is_not_drawn_again_after_it_was_deleted(self) -> None:
        positions = append(3)
        StoredEvent.objects.filter(position=positions[-1]).delete()
        execute("UPDATE es_django_stream SET version = 2")
        assert append() > positions[-1:]
        assert status().log.error == ""
