"""Logs of a help desk, to load in tests."""

import csv
import gzip
import io
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from testproject.helpdesk.log import COLUMNS

HEADER = ",".join(COLUMNS)
OTHER_VALUES = ",Value 1" * 9


def row(case: str = "Case 1", step: str = "Closed", at: str = "2012-10-09T14:50:17+00:00") -> str:
    return f"{case},{step},Value 1,{at}{OTHER_VALUES}"


def write_log(path: Path, rows: Iterable[str | bytes], *, header: str = HEADER) -> Path:
    lines = [header, *rows]
    content = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\r\n" for line in lines)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def generated_rows(cases: int, *, seed: int = 20121009) -> list[str]:
    """Return rows like those of a real log. A case has a few steps, and some steps occur twice in one second.

    Most cases are closed once, a few twice or never.
    """
    chance = random.Random(seed)
    rows = []
    for number in range(1, cases + 1):
        at = datetime(2012, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
        steps = ["Assign seriousness", *chance.choices(["Take in charge ticket", "Wait", "Resolve ticket"], k=3)]
        steps += chance.choices([["Closed"], ["Closed", "Wait", "Closed"], ["Closed", "Wait"], []], [94, 2, 2, 2])[0]
        for step in steps:
            at += timedelta(seconds=chance.randint(1, 100_000))
            rows += [row(f"Case {number}", step, at.isoformat())] * (2 if chance.random() < 0.01 else 1)
    return rows


def column(path: Path, name: str) -> list[str]:
    """Return all values of a column, read without the code under test."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [record[name] for record in csv.DictReader(io.StringIO(content.decode(), newline=""))]
