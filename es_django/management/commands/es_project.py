import time
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections, connections

from es_django import conf
from es_django.core.errors import EsDjangoError
from es_django.management.arguments import add_by, one_line, require_seconds
from es_django.management.loop import Loop
from es_django.models import CheckpointStatus
from es_django.projections import pause, resume, run_projections, skip
from es_django.projections.base import registered_projections
from es_django.projections.checkpoints import stored_or_new
from es_django.store.backends import store_for
from es_django.store.error_translation import storage_errors

TURN = 2.0
"""Seconds of work between two checks for a signal."""
LONG_TURN = 20.0
"""Seconds of work between two checks of the end of the log, with `--once`."""


class Command(BaseCommand):
    help = (
        "Run the asynchronous projections until SIGTERM or Ctrl-C, for projects without Celery. Any number of these "
        "processes may run at once. With --pause, --resume or --skip, change one projection and exit."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--interval", type=float, default=1.0, help="seconds to wait when the log has no new events (default: 1)"
        )
        add_by(parser)
        action = parser.add_mutually_exclusive_group()
        action.add_argument(
            "--once",
            action="store_true",
            help="exit at the end of the log; exit with 1 if a projection has not reached it",
        )
        action.add_argument("--pause", metavar="NAME", help="pause a projection until it is resumed")
        action.add_argument("--resume", metavar="NAME", help="resume a projection that is paused or failed")
        action.add_argument(
            "--skip", nargs=2, metavar=("NAME", "POSITION"), help="skip the event at which a projection fails"
        )

    def handle(self, *, once: bool, by: str, interval: float, **options: Any) -> None:
        require_seconds("--interval", interval)
        try:
            if name := options["pause"]:
                pause(name, by=by)
            elif name := options["resume"]:
                resume(name, by=by)
            elif options["skip"]:
                name, position = options["skip"]
                skip(name, _position(position), by=by)
            elif once:
                self._run_to_the_end()
            else:
                Loop(interval, self.stderr).run(_take_turn)
        except EsDjangoError as error:
            raise one_line(error) from error

    def _run_to_the_end(self) -> None:
        is_done = False
        while not is_done:
            deadline = time.monotonic() + LONG_TURN
            end = store_for().safe_end()
            # A result of 0 is not enough: a run may use up its time on events that no projection follows.
            is_done = not run_projections(seconds=LONG_TURN) and time.monotonic() < deadline
        with storage_errors("read the checkpoints", connections[conf.settings().database]):
            behind = list(_behind(end))
        if behind:
            raise CommandError(f"Not at the end of the log: {'; '.join(behind)}.")


def _take_turn() -> int:
    close_old_connections()
    return run_projections(seconds=TURN)


def _behind(end: int) -> Iterator[str]:
    for projection in registered_projections().values():
        for checkpoint in stored_or_new(projection):
            is_inline = checkpoint.status == CheckpointStatus.INLINE and projection.is_inline()
            if is_inline or checkpoint.status == CheckpointStatus.PAUSED:
                continue
            if checkpoint.failed_position is not None:
                reason = "needs newer code" if checkpoint.needs_newer_code else "fails"
                yield f"{checkpoint} is {checkpoint.status} and {reason} at position {checkpoint.failed_position}"
            elif checkpoint.position < end:
                yield f"{checkpoint} is {checkpoint.status} at position {checkpoint.position} of {end}"


def _position(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise CommandError(f"{text!r} is not a position")
    return int(text)
