"""How everything is, on the first page of the app: what an operator looks at before anything else.

Nothing is counted beyond `MOST`, and each number comes from an index that holds little more than what it counts.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from django.db.models import Max, Model
from django.utils import timezone

from es_django import conf, health
from es_django.admin.chart import EventsPerMinute
from es_django.admin.elements import amount, duration, status_badge
from es_django.admin.standing import STANDINGS
from es_django.errors import EsDjangoError
from es_django.health import Health
from es_django.lag import MOST
from es_django.models import InboxReceipt, OutboxMessage, ProjectionCheckpoint, StoredEvent
from es_django.outbox.health import DestinationHealth


@dataclass(frozen=True)
class Cell:
    """A number of messages, and the standing that leads to them in the list."""

    standing: str
    label: str
    shown: str
    is_bad: bool


@dataclass(frozen=True)
class Destination:
    name: str
    cells: list[Cell]
    oldest_due: str


@dataclass(frozen=True)
class ShownProjection:
    title: str
    status: str
    checkpoint: int | None
    waiting: str
    seconds: str
    last_error: str


class Overview:
    """What there is to tell about the models that are `visible`; each part is asked for as the page shows it."""

    standings = ("ready", "in_flight", "backing_off", "dead")

    def __init__(self, visible: Collection[type[Model]]) -> None:
        self.sees_events = StoredEvent in visible
        self.sees_outbox = OutboxMessage in visible
        self.sees_projections = ProjectionCheckpoint in visible
        self.sees_inbox = InboxReceipt in visible
        self._using = conf.settings().database

    @property
    def is_empty(self) -> bool:
        return not (self.sees_events or self.sees_outbox or self.sees_projections or self.sees_inbox)

    @cached_property
    def health(self) -> Health | None:
        try:
            return health.status()
        except EsDjangoError as error:
            self.trouble = str(error)
            return None

    trouble = ""
    """Why the health cannot be told; known once it was asked for."""

    @property
    def problems(self) -> list[str] | None:
        """A sentence for each; None for who may not see all that they are about."""
        if not (self.sees_events and self.sees_outbox and self.sees_projections) or self.health is None:
            return None
        return self.health.problems

    @cached_property
    def chart(self) -> EventsPerMinute:
        return EventsPerMinute.of_the_last_hour(self._using)

    @property
    def labels(self) -> list[str]:
        return [STANDINGS[each].label for each in self.standings]

    @property
    def destinations(self) -> list[Destination]:
        return [_shown(each) for each in self.health.destinations] if self.health else []

    @cached_property
    def projections(self) -> list[ShownProjection]:
        if self.health is None:
            return []
        checkpoints = ProjectionCheckpoint.objects.using(self._using).values_list("name", "partition", "pk")
        keys = {(name, partition): pk for name, partition, pk in checkpoints}
        return [
            ShownProjection(
                each.title,
                status_badge(each.status),
                keys.get((each.name, each.partition)),
                "with each append"
                if each.position is None
                else amount(each.lag.count, at_least=each.lag.count >= MOST),
                duration(each.lag.seconds) if each.lag.count else "",
                each.last_error,
            )
            for each in self.health.projections
        ]

    @cached_property
    def dead_receipts(self) -> str:
        dead = InboxReceipt.objects.using(self._using).filter(status=InboxReceipt.Status.DEAD)[:MOST].count()
        return amount(dead, at_least=dead >= MOST)

    @cached_property
    def newest_recorded(self) -> str:
        newest = StoredEvent.objects.using(self._using).order_by("-position")[:1].aggregate(at=Max("recorded_at"))["at"]
        return f"{duration((timezone.now() - newest).total_seconds())} ago" if newest else ""


def _shown(destination: DestinationHealth) -> Destination:
    counts = {
        "ready": destination.ready.count,
        "in_flight": destination.in_flight,
        "backing_off": destination.backing_off.count,
        "dead": destination.dead,
    }
    return Destination(
        destination.name,
        [
            Cell(
                standing,
                STANDINGS[standing].label,
                amount(count, at_least=count >= MOST),
                standing == "dead" and count > 0,
            )
            for standing, count in counts.items()
        ],
        duration(destination.ready.seconds) if destination.ready.count else "",
    )
