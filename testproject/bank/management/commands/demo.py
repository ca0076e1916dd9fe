"""Runs the sample bank: from a command to the message that another system has handled."""

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import current_app
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand
from django.db import connection
from rich.console import Console
from rich.markup import escape

from es_django import metadata
from testproject.bank.demo import display, processes
from testproject.bank.demo.backlog import Backlog, publish_again, published_but_unhandled
from testproject.bank.demo.operations import Customers
from testproject.bank.demo.processes import DemoFailed, Process
from testproject.bank.demo.reconciliation import reconcile

USER = PASSWORD = "admin"
DEFAULT_PORT = 8000
HIGHEST_PORT = 65535
POLL_SECONDS = 0.25
NO_PROGRESS_SECONDS = 60


class Command(BaseCommand):
    help = (
        "Fills the bank, waits until all messages are handled and all read models are up to date, compares both with "
        "the events, and serves the admin. Exits with 1 if a comparison fails. Ctrl-C stops the demo and its processes."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--accounts", type=_at_least(2), default=50, help="number of accounts to open (50)")
        parser.add_argument(
            "--operations", type=_at_least(0), default=500, help="number of operations on the accounts (500)"
        )
        parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same operations (1)")
        parser.add_argument(
            "--port", type=_port, help=f"port of the server ({DEFAULT_PORT}, or a free port if that is taken)"
        )
        parser.add_argument("--no-serve", action="store_true", help="exit after the closing table")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("The demo creates a user with a known password, so it runs only with DEBUG = True.")
        if options["port"] is not None and processes.free_port(options["port"]) != options["port"]:
            raise CommandError(f"Port {options['port']} is taken.")
        self.console = Console(highlight=False)
        processes.stop_signals_interrupt()
        self.exit_code = 130  # the exit code of a demo that was stopped
        try:
            self.run(**options)
        except KeyboardInterrupt:
            self.console.print("Stopped.")
        except DemoFailed as failure:
            self.console.print(f"\n[bold red]{escape(str(failure))}[/]")
            if failure.log:
                self.console.print(f"The end of {failure.log}:\n{escape(failure.tail)}", soft_wrap=True)
            self.exit_code = 1
        sys.exit(self.exit_code)

    def run(
        self, *, accounts: int, operations: int, seed: int, port: int | None, no_serve: bool, **options: Any
    ) -> None:
        self.prepare()
        with processes.worker(settings.RUN_DIR / "worker.log") as worker, self.announce_interruption():
            self.say("Worker", f"started, with beat; its log is {worker.log}")
            self.operate(worker, Customers(accounts, seed), accounts, operations)
            self.wait_for_backlog(worker)
            self.exit_code = 0 if self.everything_agrees() else 1
            if not no_serve:
                self.serve(worker, port or processes.free_port(DEFAULT_PORT))

    def prepare(self) -> None:
        self.say("Database", f"{connection.display_name} {settings.DATABASES['default']['NAME']}")
        call_command("migrate", verbosity=0, interactive=False)
        users = get_user_model()._default_manager
        if users.filter(username=USER).exists():
            self.say("User", f"{USER} exists already")
        else:
            get_user_model().objects.create_superuser(USER, password=PASSWORD)
            self.say("User", f"created {USER} with the password {PASSWORD}: for development only")
        if settings.CELERY_BROKER_URL.startswith("filesystem:"):
            # A run that was killed may have left tasks of a deleted database in this folder, and its worker may have
            # lost other tasks. Start with an empty folder, and publish each unhandled message again.
            current_app.control.purge()
            publish_again(published_but_unhandled())

    def operate(self, worker: Process, customers: Customers, accounts: int, operations: int) -> None:
        with display.bars(self.console) as progress, metadata(user=USER):
            for what, steps, total in (
                ("Accounts opened", customers.open_accounts(), accounts),
                ("Operations", customers.operate(operations), operations),
            ):
                for _ in progress.track(steps, total, description=what):
                    worker.check()
        done = customers.done
        self.console.print(
            f"{done['deposits']} deposits, {done['withdrawals']} withdrawals, {done['transfers']} transfers, and "
            f"{done['refused']} refused for insufficient funds.\n"
        )

    def wait_for_backlog(self, worker: Process) -> None:
        with display.bars(self.console) as progress:
            bars = display.BacklogBars(progress)
            last, moved_at = None, time.monotonic()
            while not (backlog := Backlog.now()).is_cleared:
                bars.show(backlog)
                worker.check()
                if backlog != last:
                    last, moved_at = backlog, time.monotonic()
                elif time.monotonic() > moved_at + NO_PROGRESS_SECONDS:
                    raise DemoFailed(f"The worker made no progress for {NO_PROGRESS_SECONDS} seconds.", worker.log)
                time.sleep(POLL_SECONDS)
            bars.show(backlog)

    def everything_agrees(self) -> bool:
        checks = reconcile()
        self.console.print(display.closing_table(checks))
        if all(check.agrees for check in checks):
            self.console.print("[bold green]Everything agrees.[/]")
            return True
        self.console.print("[bold red]Some values differ.[/]")
        return False

    def serve(self, worker: Process, port: int) -> None:
        with processes.server(port, settings.RUN_DIR / "server.log") as server:
            while not processes.answers(port):
                server.check()
                time.sleep(POLL_SECONDS)
            self.console.print(f"\nThe admin is at [bold]http://127.0.0.1:{port}/admin/[/]")
            self.console.print(f"Log in as {USER} with the password {PASSWORD}. Ctrl-C stops everything.")
            while True:
                worker.check()
                server.check()
                time.sleep(POLL_SECONDS)

    @contextmanager
    def announce_interruption(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            self.console.print("\nStopping all processes ...")
            raise

    def say(self, what: str, text: str) -> None:
        self.console.print(f"{what:<10}{escape(text)}", soft_wrap=True)


def _port(text: str) -> int:
    number = int(text)
    if not 1 <= number <= HIGHEST_PORT:
        raise ArgumentTypeError(f"{number} is not a port: use 1 to {HIGHEST_PORT}")
    return number


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise ArgumentTypeError(f"{value} is less than {least}")
        return value

    return number
