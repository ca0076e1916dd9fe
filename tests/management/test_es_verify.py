import re
import tracemalloc
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from es_django.audit import Audit
from es_django.models import StoredEvent, Stream
from es_django.projections import run_projections
from testproject.bank.demo.operations import Customers
from tests.projections.effects import Counted

pytestmark = pytest.mark.django_db


def es_verify() -> tuple[int, list[str]]:
    out = StringIO()
    try:
        call_command("es_verify", stdout=out)
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue().splitlines()
    return 0, out.getvalue().splitlines()


def store(streams: int, events_each: int = 10) -> None:
    first = Stream.objects.count() + 1
    new = [
        Stream(category="counter", key=f"c-{number}", version=events_each) for number in range(first, first + streams)
    ]
    Stream.objects.bulk_create(new)
    StoredEvent.objects.bulk_create(
        (
            StoredEvent(
                stream=stream,
                version=version,
                type=Counted.Meta.name,
                schema_version=1,
                data={"number": version},
                metadata={},
                event_id=uuid4(),
                recorded_at=timezone.now(),
            )
            for version in range(1, events_each + 1)
            for stream in new
        ),
        batch_size=500,
    )


class TestFindings:
    @pytest.mark.django_db(transaction=True)
    def test_the_data_of_the_sample_project_have_no_findings(self) -> None:
        customers = Customers(accounts=8, seed=1)
        for _ in (*customers.open_accounts(), *customers.operate(120)):
            pass
        run_projections()
        code, lines = es_verify()
        assert (code, len(lines)) == (0, 1)
        assert re.match(r"0 findings in \d+\.\d s, [\d,]+ events a second\. Checked streams: 8, ", lines[0])
        assert f" events: {StoredEvent.objects.count()}, " in lines[0]

    def test_each_finding_is_one_line_and_the_exit_code_is_1(self) -> None:
        store(streams=3)
        long = "k" * 200
        Stream.objects.filter(key="c-1").update(version=11, key=f"a\n{long}")
        Stream.objects.filter(key="c-3").update(version=12)
        code, lines = es_verify()
        assert code == 1
        assert lines[:2] == [
            f"stream version: stream 'counter' 'a\\n{long}' is at version 11, but its last event has version 10",
            "stream version: stream 'counter' 'c-3' is at version 12, but its last event has version 10",
        ]
        assert re.match(r"2 findings in .* Checked streams: 3, events: 30\.$", lines[2])
        assert len(lines) == 3

    def test_control_characters_in_a_finding_do_not_reach_the_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        finding = "stream \x1b[2J\x9b31mred\x07 c-1\nof two lines"
        monkeypatch.setattr(Audit, "findings", lambda self: iter([finding]))
        assert es_verify()[1][:2] == ["stream [2J31mred c-1", "of two lines"]


class TestCommand:
    def test_a_database_that_is_not_migrated_is_rejected(self) -> None:
        MigrationRecorder(connection).migration_qs.filter(app="es_django").delete()
        with pytest.raises(CommandError, match=r"run manage\.py migrate first"):
            es_verify()

    @pytest.mark.slow
    def test_memory_does_not_grow_with_the_number_of_events(self) -> None:
        def peak() -> int:
            tracemalloc.start()
            try:
                assert list(Audit().findings()) == []
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        store(streams=3000, events_each=4)
        peak()
        before = peak()
        store(streams=6000, events_each=4)
        assert peak() < 1.6 * before
