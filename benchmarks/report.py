"""Report the figures: a line for each as it arrives, then a table, JSON and a chart."""

import os
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.chart import chart
from benchmarks.measure import Effort, Figure, Title, grouped

FOLDER = Path(__file__).resolve().parent.parent / "var" / "benchmarks"


class Report:
    def __init__(self, effort: Effort) -> None:
        self._effort = effort
        self._figures: list[Figure] = []
        self._console = Console()

    @property
    def holds(self) -> bool:
        return all(figure.holds for figure in self._figures)

    def add(self, figure: Figure) -> None:
        self._figures.append(figure)
        self._console.print(f"{figure.title.part}: {figure.title.work}: {figure.ratio:.2f}")

    def finish(self) -> None:
        table = Table("", "es_django", "beside", "ratio", "asked", box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for heading, group in grouped(self._figures, _heading).items():
            table.add_row(heading, style="bold")
            for figure in group:
                table.add_row(*_cells(figure), style="" if figure.holds else "yellow")
        self._console.print(f"Median of {self._effort.rounds}; * means below the target", table, sep="\n")
        load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        self._console.print(f"Load average {load}")
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "figures.json").write_bytes(msgspec.json.format(msgspec.json.encode(self._figures)))
        (FOLDER / "figures.svg").write_text(chart(self._figures))


def _heading(title: Title) -> str:
    return f"{title.part} / {title.beside}"


def _cells(figure: Figure) -> list[str]:
    title, missed = figure.title, "" if figure.holds else " *"
    rate, floor = (f"{value:,.1f}" if value < 10 else f"{value:,.0f}" for value in (figure.rate, figure.floor))
    return [f"  {title.work}", f"{rate} {title.unit}", floor, f"{figure.ratio:.2f}", f"{figure.least:.2f}{missed}"]
