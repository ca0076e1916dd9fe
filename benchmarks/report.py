"""What was measured: told line by line, then a table, and two files."""

import os
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.chart import chart
from benchmarks.measure import Effort, Figure

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
        table = Table("", "es_django", "beside it", "", "ratio", "at least", title=f"Median of {self._effort.rounds}")
        for figure in self._figures:
            title = figure.title
            table.add_row(
                f"{title.part}: {title.work}",
                f"{figure.rate:,.0f} {title.unit}",
                f"{figure.floor:,.0f}",
                title.beside,
                f"{figure.ratio:.2f}",
                f"{figure.least:.2f}",
                style="" if figure.holds else "red",
            )
        self._console.print(table)
        load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        self._console.print(f"Load average {load}")
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "figures.json").write_bytes(msgspec.json.format(msgspec.json.encode(self._figures)))
        (FOLDER / "figures.svg").write_text(chart(self._figures))
