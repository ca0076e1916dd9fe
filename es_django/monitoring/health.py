"""Whether the store keeps up: how far each projection and each destination is behind, what holds the log back, and what
the inbox has given up.

Lags are measured against the newest event that is committed, on the database's clock, so that a runner that hangs and
an append that never ends show as what they are. Nothing is counted beyond `es_django.lag.MOST`.
"""

import msgspec
from django.db import connections
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from es_django import conf
from es_django.models import InboxReceipt, ProjectionCheckpoint, StoredEvent
from es_django.models.projections import CheckpointStatus
from es_django.monitoring import lag
from es_django.monitoring.destinations import DestinationHealth as DestinationHealth
from es_django.monitoring.destinations import destinations, problems_of
from es_django.monitoring.lag import NO_LAG, seconds_of
from es_django.monitoring.lag import Lag as Lag
from es_django.projections.base import Projection, registered_projections
from es_django.projections.checkpoints import newest_position, stored_or_new
from es_django.projections.errors import ModeChanged
from es_django.store.backends import store_for
from es_django.store.error_translation import storage_errors


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


class Health(msgspec.Struct, frozen=True):
    """Everything at one moment; `problems` has a sentence for each thing that somebody should look at.

    `dead_receipts` is how many messages of the inbox are dead.
    """

    log: LogHealth
    projections: list[ProjectionHealth]
    destinations: list[DestinationHealth]
    dead_receipts: int
    problems: list[str]


def status(*, max_lag: float = 60.0) -> Health:
    """How everything is; a lag of more than `max_lag` seconds is a problem, and so is what has failed for good.

    Raises `StorageError` if the database does not tell, as in a transaction in which the log cannot be read.
    """
    with storage_errors("tell the status", connections[conf.settings().database]):
        log = _log()
        projections = [health for each in registered_projections().values() for health in _projection(each)]
        found = destinations()
        dead_receipts = _dead_receipts()
    problems = [*_log_problems(log, max_lag)]
    for projection in projections:
        problems += _projection_problems(projection, max_lag)
    for destination in found:
        problems += problems_of(destination, max_lag)
    if dead_receipts:
        problems.append("1 inbox message is dead" if dead_receipts == 1 else f"{dead_receipts} inbox messages are dead")
    return Health(log, projections, found, dead_receipts, problems)


def _events() -> QuerySet[StoredEvent]:
    return StoredEvent.objects.using(conf.settings().database)


def _lag(events: QuerySet[StoredEvent]) -> Lag:
    waiting = events.order_by("position")[: lag.MOST]
    oldest = waiting.annotate(age=Now() - F("recorded_at")).values_list("age", flat=True).first()
    return NO_LAG if oldest is None else Lag(waiting.count(), seconds_of(oldest))


def _log() -> LogHealth:
    newest = newest_position()
    end = store_for().safe_end()
    # What was committed after the first look is not held back, only not looked at.
    return LogHealth(newest, end, _lag(_events().filter(position__gt=end, position__lte=newest)))


def _projection(projection: Projection) -> list[ProjectionHealth]:
    return [_partition(checkpoint) for checkpoint in stored_or_new(projection)]


def _partition(checkpoint: ProjectionCheckpoint) -> ProjectionHealth:
    is_inline = checkpoint.status == CheckpointStatus.INLINE
    return ProjectionHealth(
        checkpoint.name,
        checkpoint.partition,
        checkpoint.partitions,
        checkpoint.status,
        None if is_inline else checkpoint.position,
        NO_LAG if is_inline else _lag(_events().filter(position__gt=checkpoint.position)),
        checkpoint.failed_position,
        checkpoint.last_error,
    )


def _dead_receipts() -> int:
    receipts = InboxReceipt.objects.using(conf.settings().database)
    return receipts.filter(status=InboxReceipt.Status.DEAD)[: lag.MOST].count()


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
    if projection.status == CheckpointStatus.INLINE and not registered.is_inline():
        return [str(ModeChanged(projection.name))]
    if projection.partitions != registered.partitions:
        now = registered.partitions
        return [
            f"projection {name} stands still: its checkpoints are for {projection.partitions} partitions, not {now}"
        ]
    if projection.status == CheckpointStatus.FAILED:
        return [f"projection {name} has failed at position {projection.failed_position}"]
    if projection.lag.seconds > max_lag:
        return [f"projection {name} is {projection.status}, and {projection.lag.seconds:.0f} s behind"]
    return []
