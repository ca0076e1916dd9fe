import signal
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from threading import Event
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections, connections

from es_django import conf
from es_django.core.errors import EsDjangoError
from es_django.management.arguments import add_by, refusal, seconds
from es_django.models.projections import CheckpointStatus
from es_django.projections import pause, resume, run_projections, skip
from es_django.projections.base import registered_projections
from es_django.projections.checkpoints import stored_or_new
from es_django.store.backends import store_for
from es_django.store.error_translation import storage_errors

TURN = 2.0
"""Seconds of work after which a signal to stop is heeded."""
LONG_TURN = 20.0


class Command(BaseCommand):
    help = (
        "Runs the asynchronous projections, without Celery, until it is stopped by SIGTERM or Ctrl-C. Any number may "
        "run at once. With --pause, --resume or --skip it does only that."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--interval", type=float, default=1.0, help="seconds between two looks at an idle log")
        add_by(parser)
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--once", action="store_true", help="end at the end of the log, or with 1 short of it")
        what.add_argument("--pause", metavar="NAME", help="stop a projection until it is resumed")
        what.add_argument("--resume", metavar="NAME", help="let a projection that is paused or failed go on")
        what.add_argument(
            "--skip", nargs=2, metavar=("NAME", "POSITION"), help="let it go on without the event at which it fails"
        )

    def handle(self, *, once: bool, by: str, interval: float, **options: Any) -> None:
        seconds("--interval", interval)
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
                self._run(interval)
        except EsDjangoError as error:
            raise refusal(error) from error

    def _run_to_the_end(self) -> None:
        is_done = False
        while not is_done:
            deadline = time.monotonic() + LONG_TURN
            end = store_for().safe_end()
            # Events that nobody follows count as none applied, and take their time as well.
            is_done = not run_projections(seconds=LONG_TURN) and time.monotonic() < deadline
        with storage_errors("look where the projections are", connections[conf.settings().database]):
            behind = list(_behind(end))
        if behind:
            raise CommandError(f"Not at the end of the log: {'; '.join(behind)}.")

    def _run(self, interval: float) -> None:
        stopped = Event()

        def stop(number: int, frame: FrameType | None) -> None:
            stopped.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not stopped.is_set():
                close_old_connections()
                if not self._turn():
                    stopped.wait(interval)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _turn(self) -> int:
        try:
            return run_projections(seconds=TURN)
        except EsDjangoError as error:
            if not error.retryable:
                raise
            self.stderr.write(f"{error}; it goes on in a moment")
            return 0


def _behind(end: int) -> Iterator[str]:
    for projection in registered_projections().values():
        for checkpoint in stored_or_new(projection):
            if checkpoint.status == CheckpointStatus.PAUSED or (
                checkpoint.status == CheckpointStatus.INLINE and projection.is_inline()
            ):
                continue
            if checkpoint.failed_position is not None:
                yield f"{checkpoint} is {checkpoint.status}, and fails at position {checkpoint.failed_position}"
            elif checkpoint.position < end:
                yield f"{checkpoint} is {checkpoint.status}, at position {checkpoint.position} of {end}"


def _position(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise CommandError(f"{text!r} is no position")
    return int(text)
