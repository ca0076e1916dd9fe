"""A bar chart as SVG, with a summary in words. Its colors are in the style sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise

from django.utils import timezone

from es_django.admin.position_by_time import first_keys_since
from es_django.models import StoredEvent

MINUTES = 60
HEIGHT = 100
WIDTH = 10
"""The width of a bar together with the space before the next bar."""


@dataclass(frozen=True)
class Bar:
    x: int
    y: float
    height: float
    summary: str


@dataclass(frozen=True)
class EventsPerMinute:
    """The number of log positions assigned in each minute since `start`. The last minute is not over yet.

    Positions of rolled-back appends count too. To leave them out, every event of the hour would have to be read.
    """

    start: datetime
    counts: Sequence[int]

    @classmethod
    def of_the_last_hour(cls, using: str) -> "EventsPerMinute":
        # Use UTC: when clocks are set back, a local hour occurs twice.
        minute = timezone.now().astimezone(UTC).replace(second=0, microsecond=0)
        start = minute - timedelta(minutes=MINUTES - 1)
        bounds = [start + timedelta(minutes=n) for n in range(MINUTES)]
        places = first_keys_since(StoredEvent, "recorded_at", [*bounds, minute + timedelta(days=1)], using=using)
        return cls(start, [end - begin for begin, end in pairwise(places)])

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def most(self) -> int:
        return max(self.counts)

    @property
    def busiest(self) -> datetime:
        return self._minute(self.counts.index(self.most))

    @property
    def end(self) -> datetime:
        return self._minute(len(self.counts) - 1)

    @property
    def summary(self) -> str:
        if not self.total:
            return "No events in the last hour."
        events = "1 event" if self.total == 1 else f"{self.total:,} events"
        return f"{events} in the last hour, at most {self.most:,} in a minute, at {self.busiest:%H:%M}."

    @property
    def view_box(self) -> str:
        return f"0 0 {WIDTH * len(self.counts)} {HEIGHT}"

    @cached_property
    def bars(self) -> list[Bar]:
        shown = [(number, count) for number, count in enumerate(self.counts) if count]
        return [self._bar(number, count) for number, count in shown]

    def _bar(self, number: int, count: int) -> Bar:
        height = max(1.5, round(HEIGHT * count / self.most, 1))
        return Bar(WIDTH * number + 1, HEIGHT - height, height, f"{self._minute(number):%H:%M}: {count:,}")

    def _minute(self, number: int) -> datetime:
        return timezone.localtime(self.start + timedelta(minutes=number))
