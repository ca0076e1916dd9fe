from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand

from es_django.core.errors import EsDjangoError
from es_django.management.arguments import one_line, require_seconds
from es_django.management.loop import Loop
from es_django.outbox.circuit_breaker import unreachable_destinations
from es_django.outbox.relay import relay


class Command(BaseCommand):
    help = (
        "Publish outbox messages until SIGTERM or Ctrl-C, for projects without Celery. After the first signal, finish "
        "the messages that a publisher already has, give back other claims, and exit. A second signal ends the command "
        "at once."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--destination", help="publish only messages to this destination (default: all)")
        parser.add_argument(
            "--interval", type=float, default=1.0, help="seconds to wait when no message is due (default: 1)"
        )
        parser.add_argument(
            "--once",
            action="store_true",
            help="exit when no message is due; exit with 1 if the database fails or a destination is unreachable",
        )

    def handle(self, *, destination: str | None, interval: float, once: bool, **options: Any) -> None:
        require_seconds("--interval", interval)
        loop = Loop(interval, self.stderr)
        try:
            total = loop.run(lambda: relay(destination, is_stopped=loop.is_stopped), once=once)
        except (EsDjangoError, ImproperlyConfigured) as error:
            raise one_line(error) from error
        self.stdout.write("1 message was published" if total == 1 else f"{total} messages were published")
        if once and (errors := unreachable_destinations()):
            lines = [f"destination {name} cannot be reached: {error}" for name, error in errors.items()]
            raise one_line("; ".join(lines))
