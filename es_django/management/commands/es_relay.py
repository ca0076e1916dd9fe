import signal
import time
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand

from es_django.core.errors import EsDjangoError
from es_django.management.arguments import refusal, seconds
from es_django.outbox.circuit_breaker import unreached
from es_django.outbox.errors import UnknownDestination
from es_django.outbox.relay import relay

NAP = 0.5
"""Seconds after which an idle relay looks whether it was stopped."""


class Command(BaseCommand):
    help = (
        "Publishes outbox messages until it is stopped, for projects without Celery. SIGTERM and Ctrl-C let it finish "
        "what it has handed to a publisher, and give the rest back."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--destination", help="only the messages to this one; to all where absent")
        parser.add_argument("--interval", type=float, default=1.0, help="seconds between two looks at an idle outbox")
        parser.add_argument(
            "--once",
            action="store_true",
            help="end when nothing is due any more; with 1 if the database fails or a destination is not reached",
        )

    def handle(self, *, destination: str | None, interval: float, once: bool, **options: Any) -> None:
        seconds("--interval", interval)
        self._stopped = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        total = 0
        while not self._stopped:
            published = self._relay(destination, once=once)
            total += published
            if published == 0:
                if once:
                    break
                self._rest(interval)
        self.stdout.write(f"{total} messages were published")
        if once and (errors := unreached()):
            told = "; ".join(f"destination {name} cannot be reached: {error}" for name, error in errors.items())
            raise refusal(told)

    def _relay(self, destination: str | None, *, once: bool) -> int:
        try:
            return relay(destination, is_stopped=lambda: self._stopped)
        except (UnknownDestination, ImproperlyConfigured) as error:
            raise refusal(error) from error
        except EsDjangoError as error:
            if once:
                raise refusal(error) from error
            if not error.retryable:
                raise
            self.stderr.write(f"{error}; it goes on in a moment")
            return 0

    def _rest(self, interval: float) -> None:
        ends = time.monotonic() + interval
        # In naps, since a signal does not end a sleep.
        while not self._stopped and (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, NAP))

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped = True
        # A second signal ends a publisher that hangs; its messages come back when their lease is over.
        signal.signal(number, signal.SIG_DFL)
