"""The output of the demo: live progress bars in a terminal, plain lines elsewhere."""

from decimal import Decimal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from testproject.bank.demo.backlog import Backlog
from testproject.bank.demo.reconciliation import Check


def bars(console: Console) -> Progress:
    columns = [TextColumn("{task.description:<26}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    return Progress(*columns, console=console)


class BacklogBars:
    """Progress bars of the worker's backlog."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._published = progress.add_task("Published by the outbox")
        self._handled = progress.add_task("Handled by the ledger")
        self._projected = progress.add_task("Projected to statements")

    def show(self, backlog: Backlog) -> None:
        self._move(self._published, backlog.messages, backlog.unpublished)
        self._move(self._handled, backlog.messages, backlog.unhandled)
        self._move(self._projected, backlog.events, backlog.unprojected)

    def _move(self, bar: TaskID, total: int, missing: int) -> None:
        self._progress.update(bar, total=total, completed=total - missing)


def closing_table(checks: list[Check]) -> Table:
    """Return a table with the expected and the actual value of each check."""
    table = Table(caption="Money is compared account by account.", caption_justify="left")
    table.add_column("All accounts in this database")
    table.add_column("by the events", justify="right")
    table.add_column("found", justify="right")
    table.add_column("")
    for check in checks:
        verdict = "agrees" if check.agrees else f"[bold red]DIFFERS[/]{_where(check)}"
        table.add_row(check.subject, _number(check.expected), _number(check.found), verdict)
    return table


def _where(check: Check) -> str:
    accounts = check.differing_accounts
    if not accounts:
        return ""
    more = f" and {len(accounts) - 1} more" if len(accounts) > 1 else ""
    return f" in {accounts[0]}{more}"


def _number(value: int | Decimal) -> str:
    return f"{value:,}"
