import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from es_django import ConcurrencyError, StreamId
from es_django.models import OutboxMessage, StoredEvent, Stream
from testproject.helpdesk import loading
from testproject.helpdesk.events import StepTaken
from testproject.helpdesk.loading import Stored, store_steps, tickets
from testproject.helpdesk.log import read_log
from testproject.helpdesk.management.commands import load_tickets
from tests.background import environment_of_test_database
from tests.helpdesk.logs import column, generated_rows, row, write_log
from tests.processes import run_processes


def load(path: Path, *options: str) -> str:
    out = StringIO()
    call_command("load_tickets", str(path), *options, stdout=out)
    return out.getvalue()


def stored_rows() -> Counter[tuple[str, str]]:
    return Counter(StoredEvent.objects.values_list("stream__key", "data__step"))


def rows_of(path: Path) -> Counter[tuple[str, str]]:
    return Counter(zip(column(path, "case:concept:name"), column(path, "concept:name"), strict=True))


def assert_loaded(path: Path) -> None:
    """Assert that each row of the file is stored once in the stream of its case, and that nothing else is stored."""
    assert stored_rows() == rows_of(path)
    assert Stream.objects.filter(category="ticket").count() == Stream.objects.count()
    assert OutboxMessage.objects.count() == column(path, "concept:name").count("Closed")
    log = read_log(path)
    for case in list(log.cases)[::50]:
        assert tickets.get(case).steps == Counter(log.cases[case])


def load_together(barrier: Barrier, path: Path) -> str:
    barrier.wait()
    return load(path)


class TestLoad:
    @pytest.mark.django_db
    def test_each_row_is_stored_in_the_stream_of_its_case(self, generated_log: Path) -> None:
        load(generated_log)
        assert_loaded(generated_log)

    @pytest.mark.django_db
    def test_summary_is_one_line(self, tmp_path: Path) -> None:
        rows = [row("Case 1", "Wait"), row("Case 1", "Closed"), row("Case 2", "Wait")]
        out = load(write_log(tmp_path / "log.csv", rows))
        assert out.startswith("3 events of 2 cases and 1 message stored in ")
        assert out.endswith(" events a second.\n")

    @pytest.mark.django_db
    @pytest.mark.parametrize(
        "content", [None, b"case,step\r\n", b"\x1f\x8b and no more"], ids=["absent", "other", "damaged"]
    )
    def test_file_that_is_not_a_log_is_an_error(self, content: bytes | None, tmp_path: Path) -> None:
        path = tmp_path / "log.csv"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(CommandError, match=str(path)):
            load(path)


class TestMalformedRows:
    @pytest.mark.django_db
    def test_malformed_rows_are_reported_and_skipped(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write_log(tmp_path / "log.csv", [row("Case 1"), row("Case 1", at="now"), row(""), row("Case 2")])
        assert "2 malformed rows skipped." in load(path)
        assert capsys.readouterr().err.splitlines() == [
            f"{path}, line 3: time:timestamp is not an ISO 8601 time: 'now'",
            f"{path}, line 4: case:concept:name is empty",
        ]
        assert stored_rows() == {("Case 1", "Closed"): 1, ("Case 2", "Closed"): 1}

    @pytest.mark.django_db
    def test_strict_load_stores_nothing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write_log(tmp_path / "log.csv", [row("Case 1"), row("Case 1", at="now")])
        with pytest.raises(CommandError, match="1 row is malformed: nothing was stored") as raised:
            load(path, "--strict")
        assert raised.value.returncode == 1
        assert f"{path}, line 3: " in capsys.readouterr().err
        assert not StoredEvent.objects.exists()

    @pytest.mark.django_db
    def test_strict_load_stores_a_valid_log(self, generated_log: Path) -> None:
        load(generated_log, "--strict")
        assert_loaded(generated_log)

    @pytest.mark.django_db
    def test_corrected_log_adds_the_missing_rows(self, tmp_path: Path) -> None:
        rows = generated_rows(30)
        sound = write_log(tmp_path / "sound.csv", rows)
        broken = [line.replace("2012-", "2012 ") if number % 7 == 0 else line for number, line in enumerate(rows)]
        load(write_log(tmp_path / "broken.csv", broken))
        missing = len(rows) - StoredEvent.objects.count()
        assert missing > 10

        assert load(sound).startswith(f"{missing} events of ")
        assert_loaded(sound)


class TestRepeat:
    @pytest.mark.django_db
    def test_second_load_stores_nothing(self, generated_log: Path) -> None:
        load(generated_log)
        out = load(generated_log)
        assert out.startswith("0 events of 0 cases and 0 messages stored")
        assert f"{len(column(generated_log, 'concept:name')):,} rows stored before." in out
        assert_loaded(generated_log)

    @pytest.mark.django_db
    def test_duplicate_rows_are_stored_as_often_as_in_the_log(self, tmp_path: Path) -> None:
        path = write_log(tmp_path / "log.csv", [row(), row(), row("Case 2")])
        load(path)
        load(path)
        assert stored_rows() == {("Case 1", "Closed"): 2, ("Case 2", "Closed"): 1}

    @pytest.mark.django_db
    @pytest.mark.parametrize(
        ("error", "message", "returncode"),
        [
            (ConcurrencyError(StreamId("ticket", "Case 1"), 1, 2), "The stream changed concurrently", 1),
            (KeyboardInterrupt(), "Interrupted", 130),
        ],
    )
    def test_interrupted_load_can_be_repeated(
        self,
        error: BaseException,
        message: str,
        returncode: int,
        generated_log: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def store_two_batches(cases: Mapping[str, Sequence[StepTaken]]) -> Stored:
            if Stream.objects.count() == 200:
                raise error
            return store_steps(cases)

        with monkeypatch.context() as patched:
            patched.setattr(load_tickets, "store_steps", store_two_batches)
            with pytest.raises(CommandError, match=rf"{message}.*\. 200 of 300 cases are stored") as raised:
                load(generated_log)
        assert raised.value.returncode == returncode
        assert Stream.objects.count() == 200
        load(generated_log)
        assert_loaded(generated_log)

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.slow
    def test_killed_load_can_be_repeated(self, tmp_path: Path) -> None:
        path = write_log(tmp_path / "log.csv.gz", generated_rows(4000))
        total = len(column(path, "concept:name"))
        process = subprocess.Popen(
            [sys.executable, "manage.py", "load_tickets", str(path)],
            cwd=settings.BASE_DIR,
            env=environment_of_test_database(),
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while StoredEvent.objects.count() < 2000 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(timeout=10) == -signal.SIGKILL
        assert 2000 <= StoredEvent.objects.count() < total

        load(path)
        assert_loaded(path)


class TestConcurrency:
    @pytest.mark.django_db
    def test_repeated_conflicts_end_the_load(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        conflict = ConcurrencyError(StreamId("ticket", "Case 1"), 1, 2)
        attempts: list[object] = []

        def refuse(*args: object) -> None:
            attempts.append(args)
            raise conflict

        monkeypatch.setattr(loading.tickets, "save_all", refuse)
        monkeypatch.setattr(loading, "LONGEST_PAUSE", 0.001)
        with pytest.raises(ConcurrencyError):
            store_steps(read_log(write_log(tmp_path / "log.csv", [row()])).cases)
        assert len(attempts) == loading.ATTEMPTS

    @pytest.mark.django_db(transaction=True)
    def test_concurrent_loads_store_each_row_once(self, tmp_path: Path) -> None:
        path = write_log(tmp_path / "log.csv", generated_rows(1000))
        outputs = run_processes(load_together, [(path,), (path,)], timeout=90)
        stored = [int(output.split(" ", 1)[0].replace(",", "")) for output in outputs]
        assert sum(stored) == len(column(path, "concept:name"))
        assert_loaded(path)
