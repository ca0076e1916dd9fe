import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

import msgspec
from django.core.management.base import BaseCommand
from rich.console import Console
from rich.table import Table

from es_django.core.errors import EsDjangoError
from es_django.management.arguments import one_line, require_seconds
from es_django.management.terminal import printable
from es_django.monitoring.destinations import COUNTED_STATES
from es_django.monitoring.health import Health, status
from es_django.monitoring.lag import MOST, Lag


class Command(BaseCommand):
    help = (
        "Show the lag of each projection and of each outbox destination, the number of events above the safe end "
        "(readers wait for an open append), and the number of dead inbox messages. Exit with 1 if there is a problem, "
        "or if the database fails."
    )

    # Django's checks may query the database, and would fail first if it is down. This command must report that itself.
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", choices=["table", "json"], default="table")
        parser.add_argument(
            "--max-lag",
            type=float,
            default=60.0,
            metavar="SECONDS",
            help="report a longer lag as a problem (default: 60)",
        )

    def handle(self, *args: Any, format: str, max_lag: float, **options: Any) -> None:
        require_seconds("--max-lag", max_lag)
        try:
            health = status(max_lag=max_lag)
        except EsDjangoError as error:
            raise one_line(error) from error
        if format == "json":
            self.stdout.write(msgspec.json.format(msgspec.json.encode(health)).decode())
        else:
            self._print(health)
        if health.problems:
            sys.exit(1)

    def _print(self, health: Health) -> None:
        console = Console(file=self.stdout, highlight=False, markup=False)  # type: ignore[arg-type]
        log = health.log
        rows: list[list[object]] = [[log.newest, log.safe_end, _shown(log.held_back)]]
        console.print(_table("Log", ["newest position", "safe end", "held back"], rows))
        rows = [
            [each.title, each.status, each.position, _shown(each.lag), each.last_error] for each in health.projections
        ]
        console.print(_table("Projections", ["name", "status", "position", "lag", "last error"], rows))
        rows = [
            [
                each.name,
                *map(_amount, each.counts.values()),
                f"{each.due_seconds:,.1f} s",
                f"{each.backing_off_seconds:,.1f} s",
            ]
            for each in health.destinations
        ]
        columns = ["destination", *(state.label.lower() for state in COUNTED_STATES), "due for", "failing for"]
        console.print(_table("Outbox", columns, rows))
        console.print(f"Inbox: {_amount(health.dead_receipts)} dead")
        for problem in health.problems:
            console.print(printable(f"Problem: {problem}"))


def _shown(lag: Lag) -> str:
    return f"{_amount(lag.count)} for {lag.seconds:,.1f} s" if lag.count else "0"


def _amount(count: int) -> str:
    return f"{count:,} or more" if count >= MOST else f"{count:,}"


def _table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*("" if value is None else printable(value) for value in row))
    return table
