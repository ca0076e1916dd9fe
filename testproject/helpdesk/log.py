"""Read the help desk's log: CSV in UTF-8, plain or gzip, with one step of a ticket in each row."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from testproject.helpdesk.events import StepTaken

COLUMNS = {
    "case:concept:name": "case",
    "concept:name": "step",
    "org:resource": "resource",
    "time:timestamp": "at",
    "seriousness": "seriousness",
    "customer": "customer",
    "product": "product",
    "responsible_section": "responsible_section",
    "seriousness_2": "seriousness_2",
    "service_level": "service_level",
    "service_type": "service_type",
    "support_section": "support_section",
    "workgroup": "workgroup",
}
"""The columns of the header, with their names in this code."""

LONGEST_NAME = 255
GZIP_MAGIC = b"\x1f\x8b"
UNDECODED = re.compile("[\udc80-\udcff]+")


class UnreadableLog(Exception):
    """The file is not a log of the help desk."""


class MalformedRow(NamedTuple):
    """A malformed row: its first and last line, counted from 1, and the fault."""

    first_line: int
    last_line: int
    reason: str

    def __str__(self) -> str:
        lines = f"{self.first_line}" if self.first_line == self.last_line else f"{self.first_line}-{self.last_line}"
        return f"line {lines}: {self.reason}"


@dataclass(frozen=True)
class Log:
    """The steps of each case, in the order of the file, and the malformed rows."""

    cases: dict[str, list[StepTaken]] = field(default_factory=dict)
    malformed: list[MalformedRow] = field(default_factory=list)


def read_log(path: Path) -> Log:
    """Read the whole log into memory, because the rows of a case may be anywhere in it.

    Raise `UnreadableLog` if the file is damaged or has another header, and `OSError` if it cannot be opened.
    """
    log = Log()
    try:
        with _opened(path) as text:
            for row in _rows(text):
                if isinstance(row, MalformedRow):
                    log.malformed.append(row)
                else:
                    case, step = row
                    log.cases.setdefault(case, []).append(step)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableLog(f"the compressed file is damaged: {error}") from error
    return log


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[str]]:
    with path.open("rb") as file:
        is_compressed = file.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC)
        binary = gzip.GzipFile(fileobj=file) if is_compressed else file
        # Invalid UTF-8 is decoded with surrogates, so that only its own row is malformed.
        with io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            yield text


def _rows(text: Iterable[str]) -> Iterator[tuple[str, StepTaken] | MalformedRow]:
    reader = csv.reader(text, strict=True)
    try:
        _check_header(next(reader, []))
    except csv.Error as error:
        raise UnreadableLog(f"line 1: {error}") from error
    while True:
        first_line = reader.line_num + 1
        try:
            row = next(reader)
            if row:
                yield _case_and_step(row)
        except StopIteration:
            return
        except (csv.Error, ValueError) as error:
            yield MalformedRow(first_line, reader.line_num, str(error))


def _check_header(header: list[str]) -> None:
    if header == list(COLUMNS):
        return
    missing = [column for column in COLUMNS if column not in header]
    reason = (
        f"missing columns: {', '.join(missing)}"
        if missing
        else f"expected the columns {', '.join(COLUMNS)}, in this order"
    )
    raise UnreadableLog(f"line 1: this is not the header of a help desk's log: {reason}")


def _case_and_step(row: list[str]) -> tuple[str, StepTaken]:
    if len(row) != len(COLUMNS):
        raise ValueError(f"{len(row)} columns instead of {len(COLUMNS)}")
    for column, value in zip(COLUMNS, row, strict=True):
        if undecoded := UNDECODED.search(value):
            raise ValueError(f"{column} is not UTF-8: {undecoded[0].encode(errors='surrogateescape')!r}")
        if "\x00" in value:
            raise ValueError(f"{column} holds a null character")
    fields = dict(zip(COLUMNS.values(), row, strict=True))
    for column in ("case:concept:name", "concept:name"):
        name = fields[COLUMNS[column]]
        if not name.strip():
            raise ValueError(f"{column} is empty")
        if len(name) > LONGEST_NAME:
            raise ValueError(f"{column} has {len(name)} characters, more than {LONGEST_NAME}")
    case, at = fields.pop("case"), _time(fields.pop("at"))
    return case, StepTaken(at=at, **fields)


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        in_utc = at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"time:timestamp is not an ISO 8601 time: {text!r}") from None
    # The event is stored for ever, so the time zone is never guessed.
    if at.tzinfo is None:
        raise ValueError(f"time:timestamp has no time zone: {text!r}")
    return in_utc
