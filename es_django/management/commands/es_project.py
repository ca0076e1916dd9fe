import signal
from argparse import ArgumentParser
from threading import Event
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections

from es_django.errors import EsDjangoError
from es_django.management.arguments import add_by, refusal, seconds
from es_django.projections import pause, resume, run_projections, skip

TURN = 2.0
"""Seconds of work after which a signal to stop is heeded."""


class Command(BaseCommand):
    help = (
        "Runs the asynchronous projections, without Celery, until it is stopped by SIGTERM or Ctrl-C. Any number may "
        "run at once. With --pause, --resume or --skip it does only that."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--interval", type=float, default=1.0, help="seconds between two looks at an idle log")
        add_by(parser)
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--once", action="store_true", help="end at the end of the log")
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
                while run_projections():
                    pass
            else:
                self._run(interval)
        except EsDjangoError as error:
            raise refusal(error) from error

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


def _position(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise CommandError(f"{text!r} is no position")
    return int(text)
