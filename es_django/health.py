"""Whether the store keeps up: how far each projection and each destination is behind, and what holds the log back.

Lags are measured against the newest event that is committed, on the database's clock, so that a runner that hangs and
an append that never ends show as what they are. Nothing is counted beyond `MOST`.
"""

from collections import Counter
from datetime import timedelta

import msgspec
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from es_django import conf
from es_django.models import OutboxMessage, ProjectionCheckpoint, StoredEvent
from es_django.projections.base import Projection, registered_projections
from es_django.store import store_for
from es_django.store.failures import storage_errors

MOST = 10_000
"""What there is more of is counted as so many."""


class Lag(msgspec.Struct, frozen=True):
    """How many events or messages are waiting, at most `MOST`, and for how many seconds the oldest of them has been."""

    count: int
    seconds: float


class LogHealth(msgspec.Struct, frozen=True):
    """The newest event's position, the end up to which readers may go, and what appends in flight keep from them."""

    newest: int
    safe_end: int
    held_back: Lag


class ProjectionHealth(msgspec.Struct, frozen=True):
    """A projection, or one partition of it. One that is moved by the appends themselves has no position and no lag."""

    name: str
    partition: int
    partitions: int
    status: str
    position: int | None
    lag: Lag
    failed_position: int | None
    last_error: str

    @property
    def title(self) -> str:
        return self.name if self.partitions == 1 else f"{self.name} ({self.partition + 1} of {self.partitions})"


class DestinationHealth(msgspec.Struct, frozen=True):
    """The messages to a destination that are due, and how many have been given up."""

    name: str
    lag: Lag
    dead: int


class Health(msgspec.Struct, frozen=True):
    """Everything at one moment; `problems` has a sentence for each thing that somebody should look at."""

    log: LogHealth
    projections: list[ProjectionHealth]
    destinations: list[DestinationHealth]
    problems: list[str]


def status(*, max_lag: float = 60.0) -> Health:
    """How everything is; a lag of more than `max_lag` seconds is a problem, and so is what has failed for good.

    Raises `StorageError` if the database does not tell, as in a transaction in which the log cannot be read.
    """
    with storage_errors("tell the status"):
        log = _log()
        projections = [health for each in registered_projections().values() for health in _projection(each)]
        destinations = _destinations()
    problems = [*_log_problems(log, max_lag)]
    for projection in projections:
        problems += _projection_problems(projection, max_lag)
    for destination in destinations:
        problems += _destination_problems(destination, max_lag)
    return Health(log, projections, destinations, problems)


def lag_after(position: int) -> Lag:
    """How far somebody who has read the log up to `position` is behind."""
    return _lag(_events().filter(position__gt=position))


def _events() -> QuerySet[StoredEvent]:
    return StoredEvent.objects.using(conf.settings().database)


def _lag(events: QuerySet[StoredEvent]) -> Lag:
    waiting = events.order_by("position")[:MOST]
    oldest = waiting.annotate(age=Now() - F("recorded_at")).values_list("age", flat=True).first()
    return Lag(0, 0.0) if oldest is None else Lag(waiting.count(), _seconds(oldest))


def _seconds(age: timedelta) -> float:
    return max(0.0, round(age.total_seconds(), 3))


def _log() -> LogHealth:
    newest = _events().order_by("-position").values_list("position", flat=True).first() or 0
    end = store_for().safe_end()
    # What was committed after the first look is not held back, only not looked at.
    return LogHealth(newest, end, _lag(_events().filter(position__gt=end, position__lte=newest)))


def _projection(projection: Projection) -> list[ProjectionHealth]:
    checkpoints = ProjectionCheckpoint.objects.using(conf.settings().database).filter(name=projection.name)
    found = [
        ProjectionHealth(
            each.name,
            each.partition,
            each.partitions,
            each.status,
            each.position,
            lag_after(each.position),
            each.failed_position,
            each.last_error,
        )
        for each in checkpoints.order_by("partition")
    ]
    if found:
        return found
    is_inline = projection.is_inline()
    position, lag = (None, Lag(0, 0.0)) if is_inline else (0, lag_after(0))
    running = ProjectionCheckpoint.Status.RUNNING.value
    return [ProjectionHealth(projection.name, 0, projection.partitions, running, position, lag, None, "")]


def _destinations() -> list[DestinationHealth]:
    status = OutboxMessage.Status
    messages = OutboxMessage.objects.using(conf.settings().database)
    dead = Counter(messages.filter(status=status.DEAD).values_list("destination", flat=True)[:MOST])
    found = []
    for name in conf.settings().destinations:
        open_ = messages.filter(destination=name, status__in=[status.PENDING, status.CLAIMED]).order_by("id")[:MOST]
        due = messages.filter(pk__in=open_.values("pk"), available_at__lte=Now()).order_by("available_at")
        oldest = due.annotate(age=Now() - F("available_at")).values_list("age", flat=True).first()
        lag = Lag(0, 0.0) if oldest is None else Lag(due.count(), _seconds(oldest))
        found.append(DestinationHealth(name, lag, dead[name]))
    return found


def _log_problems(log: LogHealth, max_lag: float) -> list[str]:
    if log.held_back.seconds <= max_lag:
        return []
    return [
        f"an append in flight has held the log back at position {log.safe_end} for {log.held_back.seconds:.0f} s: "
        "look for a transaction that does not end"
    ]


def _projection_problems(projection: ProjectionHealth, max_lag: float) -> list[str]:
    name = projection.title
    registered = registered_projections()[projection.name]
    if projection.partitions != registered.partitions:
        now = registered.partitions
        return [
            f"projection {name} stands still: its checkpoints are for {projection.partitions} partitions, not {now}"
        ]
    if projection.status == ProjectionCheckpoint.Status.FAILED:
        return [f"projection {name} has failed at position {projection.failed_position}"]
    if projection.lag.seconds > max_lag:
        return [f"projection {name} is {projection.status}, and {projection.lag.seconds:.0f} s behind"]
    return []


def _destination_problems(destination: DestinationHealth, max_lag: float) -> list[str]:
    problems = []
    if destination.lag.seconds > max_lag:
        problems.append(f"messages to {destination.name} have been due for {destination.lag.seconds:.0f} s")
    if destination.dead:
        problems.append(f"{destination.dead} messages to {destination.name} are dead")
    return problems
