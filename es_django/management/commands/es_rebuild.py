import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn

from es_django import conf
from es_django.core.errors import EsDjangoError
from es_django.management.arguments import add_by, one_line
from es_django.models import CheckpointStatus, ProjectionCheckpoint
from es_django.projections import run_projection, start_rebuild
from es_django.projections.checkpoints import checkpoints_of, newest_position
from es_django.projections.failure_policy import has_stepped_aside
from es_django.store.error_translation import storage_errors

INTERRUPTED = 130
PAUSE = 0.2
TURN = 1.0
"""Seconds of work between two updates of the progress bar."""


class Command(BaseCommand):
    help = (
        "Rebuild a projection's read model: empty its models and replay the log. Continue a rebuild that was "
        "interrupted. A rebuild never sends a message again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help="the projection's Meta.name")
        add_by(parser)

    def handle(self, *args: Any, name: str, by: str, **options: Any) -> None:
        started = time.perf_counter()
        try:
            with storage_errors("rebuild a projection", connections[conf.settings().database]):
                applied = self._rebuild(name, by)
        except KeyboardInterrupt as interrupt:
            raise CommandError(
                f"Interrupted. Workers continue the rebuild of {name}. To watch it, run this command again.",
                returncode=INTERRUPTED,
            ) from interrupt
        except EsDjangoError as error:
            raise one_line(error) from error
        seconds = time.perf_counter() - started
        events = "1 event" if applied == 1 else f"{applied:,} events"
        self.stdout.write(f"{name} is rebuilt: {events} in {seconds:.1f} s, {applied / seconds:,.0f} events a second.")

    def _rebuild(self, name: str, by: str) -> int:
        if not start_rebuild(name, by=by):
            self.stderr.write(f"A rebuild of {name} is already under way. Continuing it.")
        applied = 0
        with self._progress() as progress:
            bar = progress.add_task(name, total=None)
            rebuilding = _rebuilding(name)
            while rebuilding:
                done = run_projection(name, seconds=TURN)
                applied += done
                rebuilding, end = _rebuilding(name), newest_position()
                # The bar shows the slowest partition.
                progress.update(bar, completed=min((each.position for each in rebuilding), default=end), total=end)
                if not done:
                    _require_new_code(rebuilding)
                if rebuilding and not done:
                    time.sleep(PAUSE)  # another process runs the projection, or a failed event waits for its retry
        return applied

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=Console(file=self.stdout),  # type: ignore[arg-type]
            transient=True,
            disable=not self.stdout.isatty(),
        )


class _Rate(TextColumn):
    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Any:
        self.text_format = f"{task.speed:,.0f} positions/s" if task.speed else ""
        return super().render(task)


def _require_new_code(rebuilding: list[ProjectionCheckpoint]) -> None:
    """Raise `CommandError` if this command can only wait, because its code is too old for the next event."""
    for checkpoint in rebuilding:
        if has_stepped_aside(checkpoint):
            raise CommandError(
                f"{checkpoint} needs newer code at position {checkpoint.failed_position}: {checkpoint.last_error}. "
                "Workers with the newer code continue the rebuild. To watch it, run this command again with that code."
            )


def _rebuilding(name: str) -> list[ProjectionCheckpoint]:
    """Return the checkpoints that are still being rebuilt. Raise `CommandError` if one of them failed or is paused."""
    checkpoints = list(checkpoints_of(name))
    for checkpoint in checkpoints:
        if checkpoint.status == CheckpointStatus.FAILED:
            raise CommandError(
                f"{checkpoint} failed at position {checkpoint.failed_position}: {checkpoint.last_error}. Fix the cause "
                "and resume it, or skip the event (manage.py es_project --help). Then the rebuild continues."
            )
        if checkpoint.status == CheckpointStatus.PAUSED:
            raise CommandError(
                f"{checkpoint} is paused. The rebuild continues after manage.py es_project --resume {name}."
            )
    return [each for each in checkpoints if each.status == CheckpointStatus.REBUILDING]
