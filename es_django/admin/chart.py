"""A chart of bars as SVG: shapes whose looks the style sheet decides, and the same in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise

from django.utils import timezone

from es_django.admin.position_by_time import places_since
from es_django.models import StoredEvent

MINUTES = 60
HEIGHT = 100
WIDTH = 10
"""Of a bar, with the space to the next one."""


@dataclass(frozen=True)
class Bar:
    x: int
    y: float
    height: float
    told: str


@dataclass(frozen=True)
class EventsPerMinute:
    """How many positions of the log were drawn in each minute, from `start` on; the last minute is not over yet.

    An append that was rolled back counts, since it leaves a gap: counting the events would read them all.
    """

    start: datetime
    counts: Sequence[int]

    @classmethod
    def of_the_last_hour(cls, using: str) -> "EventsPerMinute":
        # In UTC, since an hour that is there twice has no sum.
        minute = timezone.now().astimezone(UTC).replace(second=0, microsecond=0)
        start = minute - timedelta(minutes=MINUTES - 1)
        bounds = [start + timedelta(minutes=n) for n in range(MINUTES)]
        places = places_since(StoredEvent, "recorded_at", [*bounds, minute + timedelta(days=1)], using=using)
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
    def told(self) -> str:
        if not self.total:
            return "No event in the last hour."
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
