"""The overview on the first page of the app: problems, the log, the outbox, projections and the inbox.

Counting stops at `es_django.monitoring.lag.MOST`. Each number comes from an index that holds little more than the
counted rows.
"""

from collections.abc import Collection
from functools import cached_property

import msgspec
from django.db.models import F, Model
from django.db.models.functions import Now
from django.http import HttpRequest

from es_django import conf
from es_django.admin.chart import EventsPerMinute
from es_django.admin.html import amount, duration, status_badge
from es_django.admin.masking import error_shown
from es_django.core.errors import EsDjangoError
from es_django.models import InboxReceipt, OutboxMessage, ProjectionCheckpoint, StoredEvent
from es_django.monitoring import health, lag
from es_django.monitoring.destinations import COUNTED_STATES, DestinationHealth
from es_django.monitoring.health import Health
from es_django.outbox.states import MessageState


class Cell(msgspec.Struct, frozen=True):
    """The number of messages in a state."""

    state: MessageState
    shown: str
    is_bad: bool


class Destination(msgspec.Struct, frozen=True):
    name: str
    cells: list[Cell]
    oldest_due: str


class ShownProjection(msgspec.Struct, frozen=True):
    title: str
    status: str
    checkpoint: int | None
    waiting: str
    seconds: str
    last_error: str


class Overview:
    """The figures of the overview for the `visible` models. Each figure is queried when the page shows it."""

    states: tuple[MessageState, ...] = COUNTED_STATES

    def __init__(self, request: HttpRequest, visible: Collection[type[Model]]) -> None:
        self._request = request
        self.sees_events: bool = StoredEvent in visible
        self.sees_outbox: bool = OutboxMessage in visible
        self.sees_projections: bool = ProjectionCheckpoint in visible
        self.sees_inbox: bool = InboxReceipt in visible
        self._using = conf.settings().database

    @property
    def is_empty(self) -> bool:
        return not (self.sees_events or self.sees_outbox or self.sees_projections or self.sees_inbox)

    @cached_property
    def _health_or_error(self) -> Health | EsDjangoError:
        try:
            return health.status()
        except EsDjangoError as error:
            return error

    @property
    def health(self) -> Health | None:
        return None if isinstance(self._health_or_error, EsDjangoError) else self._health_or_error

    @property
    def unavailable(self) -> str:
        """The reason why the status is unavailable, or an empty text if it is available."""
        return str(self._health_or_error) if isinstance(self._health_or_error, EsDjangoError) else ""

    @property
    def problems(self) -> list[str] | None:
        """A sentence for each problem. None if the user may not view all models, or if the status is unavailable."""
        sees_all = self.sees_events and self.sees_outbox and self.sees_projections and self.sees_inbox
        return self.health.problems if sees_all and self.health is not None else None

    @cached_property
    def chart(self) -> EventsPerMinute:
        return EventsPerMinute.of_the_last_hour(self._using)

    @property
    def destinations(self) -> list[Destination]:
        return [] if self.health is None else [_destination(each) for each in self.health.destinations]

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
                "runs inline" if each.position is None else amount(each.lag.count, at_least=each.lag.count >= lag.MOST),
                duration(each.lag.seconds) if each.lag.count else "",
                error_shown(self._request, each.last_error),
            )
            for each in self.health.projections
        ]

    @property
    def dead_receipts(self) -> str:
        dead = 0 if self.health is None else self.health.dead_receipts
        return amount(dead, at_least=dead >= lag.MOST)

    @cached_property
    def newest_recorded(self) -> str:
        newest = StoredEvent.objects.using(self._using).order_by("-position").annotate(age=Now() - F("recorded_at"))
        age = newest.values_list("age", flat=True).first()
        return f"{duration(max(0.0, age.total_seconds()))} ago" if age is not None else ""


def _destination(health: DestinationHealth) -> Destination:
    cells = [
        Cell(state, amount(count, at_least=count >= lag.MOST), state is MessageState.DEAD and count > 0)
        for state, count in health.counts.items()
    ]
    return Destination(health.name, cells, duration(health.due_seconds) if health.due_seconds else "")
