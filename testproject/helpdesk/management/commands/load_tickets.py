import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from es_django import EsDjangoError
from testproject.helpdesk.events import StepTaken
from testproject.helpdesk.loading import Stored, store_steps
from testproject.helpdesk.log import Log, UnreadableLog, read_log

# One transaction per case would take twice as long and wake the relay a hundred times as often.
CASES_PER_TRANSACTION = 100
INTERRUPTED = 130


class Command(BaseCommand):
    help = (
        "Stores each row of a help desk's log as an event of its ticket. Rows that are already stored are skipped, "
        "so you can repeat a load after an interruption or with a corrected file."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path, help="the log as CSV, plain or gzip")
        parser.add_argument("--strict", action="store_true", help="store nothing if any row is malformed")

    def handle(self, *args: Any, file: Path, strict: bool, **options: Any) -> None:
        started = time.perf_counter()
        log = self._read(file)
        for row in log.malformed:
            self.stderr.write(f"{file}, {row}")
        if strict and log.malformed:
            raise CommandError(f"{_count(len(log.malformed), 'row is', 'rows are')} malformed: nothing was stored")
        stored = self._store(log.cases)
        self.stdout.write(_summary(log, stored, time.perf_counter() - started))

    def _read(self, file: Path) -> Log:
        try:
            return read_log(file)
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror or error}") from error
        except UnreadableLog as error:
            raise CommandError(f"{file}, {error}; nothing was stored") from error

    def _store(self, cases: Mapping[str, Sequence[StepTaken]]) -> Stored:
        done = 0
        stored = Stored(0, 0, 0)
        try:
            with self._progress() as progress:
                bar = progress.add_task("Tickets", total=len(cases))
                for batch in _batches(cases):
                    stored = stored.plus(store_steps(batch))
                    done += len(batch)
                    progress.update(bar, completed=done)
        except (EsDjangoError, KeyboardInterrupt) as error:
            reason = "Interrupted" if isinstance(error, KeyboardInterrupt) else f"{error}"
            raise CommandError(
                f"{reason}. {done:,} of {_count(len(cases), 'case')} are stored. Repeat the load to store the rest.",
                returncode=INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1,
            ) from error
        return stored

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(),
            transient=True,
            disable=not self.stdout.isatty(),
        )


def _batches(cases: Mapping[str, Sequence[StepTaken]]) -> Iterator[dict[str, Sequence[StepTaken]]]:
    remaining = iter(cases.items())
    while batch := dict(islice(remaining, CASES_PER_TRANSACTION)):
        yield batch


def _summary(log: Log, stored: Stored, seconds: float) -> str:
    events, cases = _count(stored.events, "event"), _count(stored.cases, "case")
    sentences = [
        f"{events} of {cases} and {_count(stored.messages, 'message')} stored in {seconds:.1f} s, "
        f"{stored.events / seconds:,.0f} events a second."
    ]
    if earlier := sum(map(len, log.cases.values())) - stored.events:
        sentences.append(f"{_count(earlier, 'row')} stored before.")
    if log.malformed:
        sentences.append(f"{_count(len(log.malformed), 'malformed row')} skipped.")
    return " ".join(sentences)


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
