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
        "Audit the database. Compare streams with their events, events with the current code, and snapshots with a "
        "replay. Check messages, claims and checkpoints. Look for constraints and triggers that a restore or a manual "
        "migration lost. The audit only reads, and may run while events are appended. Print one line for each finding. "
        "Exit with 1 if there is a finding."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if not is_migrated():
            raise CommandError("The tables of es_django do not match this release: run manage.py migrate first.")
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
        findings = "1 finding" if found == 1 else f"{found:,} findings"
        checked = ", ".join(f"{name}: {count:,}" for name, count in audit.counts.items()) or "nothing"
        seconds = time.perf_counter() - started
        rate = f"{audit.counts['events'] / seconds:,.0f} events a second"
        console.print(f"{findings} in {seconds:.1f} s, {rate}. Checked {checked}.", soft_wrap=True)
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
