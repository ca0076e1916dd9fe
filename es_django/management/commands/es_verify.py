import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from es_django.audit import STEPS, Audit
from es_django.core.errors import EsDjangoError
from es_django.management.terminal import printable
from es_django.monitoring.probes import is_migrated


class Command(BaseCommand):
    help = (
        "Audits the database: streams against their events, events against today's code, snapshots against replay, "
        "messages, claims, checkpoints, and the constraints and the trigger that a restore or a migration by hand may "
        "have lost. Only reads, and may run beside appends. Writes a line for each finding, and ends with 1 if there "
        "is one."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if not is_migrated():
            raise CommandError("The tables of es_django are not those of this release: run manage.py migrate first.")
        console = Console(file=self.stdout, highlight=False, markup=False)  # type: ignore[arg-type]
        started, found = time.perf_counter(), 0
        with self._progress(console) as progress:
            bars = {name: progress.add_task(name, total=None, start=False) for name in STEPS}

            def show(step: str, done: int, total: int) -> None:
                progress.start_task(bars[step])
                progress.update(bars[step], completed=done or (not total), total=total or 1)

            audit = Audit(show)
            try:
                for finding in audit.findings():
                    found += 1
                    console.print(printable(finding), soft_wrap=True)
            except EsDjangoError as error:
                raise CommandError(printable(error)) from error
        counted = ", ".join(f"{count:,} {what}" for what, count in audit.counts.items()) or "nothing"
        seconds = time.perf_counter() - started
        rate = f"{audit.counts['events'] / seconds:,.0f} events a second"
        console.print(f"{found:,} findings in {counted}; {seconds:.1f} s, {rate}.", soft_wrap=True)
        if found:
            sys.exit(1)

    def _progress(self, console: Console) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self.stdout.isatty(),
        )
