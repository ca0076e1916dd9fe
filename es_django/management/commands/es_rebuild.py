import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn

from es_django import conf
from es_django.core.errors import EsDjangoError
from es_django.management.arguments import add_by, refusal
from es_django.models import ProjectionCheckpoint
from es_django.models.projections import CheckpointStatus
from es_django.projections import run_projection, start_rebuild
from es_django.projections.checkpoints import checkpoints_of, newest_position
from es_django.store.error_translation import storage_errors

INTERRUPTED = 130
PAUSE = 0.2
TURN = 1.0
"""Seconds of work between two looks at how far it is."""


class Command(BaseCommand):
    help = (
        "Builds a projection's read model anew: empties its models and replays the log. Goes on with a rebuild that "
        "was interrupted. What the projection has told the outside is not told again."
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
                f"Interrupted. Workers, or the same command again, go on with the rebuild of {name}.",
                returncode=INTERRUPTED,
            ) from interrupt
        except EsDjangoError as error:
            raise refusal(error) from error
        seconds = time.perf_counter() - started
        rate = applied / seconds
        self.stdout.write(f"{name} is rebuilt: {applied:,} events in {seconds:.1f} s, {rate:,.0f} events a second.")

    def _rebuild(self, name: str, by: str) -> int:
        if not start_rebuild(name, by=by):
            self.stderr.write(f"The rebuild of {name} was under way, and goes on.")
        applied = 0
        with self._progress() as progress:
            bar = progress.add_task(name, total=None)
            left = _at_work(name)
            while left:
                done = run_projection(name, seconds=TURN)
                applied += done
                left, end = _at_work(name), newest_position()
                # A partition that has begun last says how far the whole of it is.
                progress.update(bar, completed=min((each.position for each in left), default=end), total=end)
                if left and not done:
                    time.sleep(PAUSE)  # somebody else is at it, or an event is to be tried again
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


def _at_work(name: str) -> list[ProjectionCheckpoint]:
    """The checkpoints that are still being rebuilt. Raises `CommandError` if one of them has stopped."""
    checkpoints = list(checkpoints_of(name))
    for checkpoint in checkpoints:
        if checkpoint.status == CheckpointStatus.FAILED:
            raise CommandError(
                f"{checkpoint} has failed at position {checkpoint.failed_position}: {checkpoint.last_error}. "
                "Mend the cause and resume it, or skip that event (manage.py es_project --help); the rebuild goes on."
            )
        if checkpoint.status == CheckpointStatus.PAUSED:
            raise CommandError(f"{checkpoint} was paused; when it is resumed, the rebuild goes on.")
    return [each for each in checkpoints if each.status == CheckpointStatus.REBUILDING]
