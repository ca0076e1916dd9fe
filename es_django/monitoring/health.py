"""The health of the store: the lag of each projection and destination, the safe end of the log, and dead messages.

A lag is measured against the newest committed event, on the database's clock. So the lag grows while a runner hangs, or
while an append does not end. Counting stops at `lag.MOST`.
"""

from datetime import timedelta

import msgspec
from django.db import connections
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils.translation import ngettext

from es_django import conf
from es_django.models import CheckpointStatus, InboxReceipt, ProjectionCheckpoint, StoredEvent
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
from es_django.store.errors import LogOutOfOrder

LONG_HANDLER = 3600
"""Seconds after which a handler that still runs is taken for lost, if no sweep has said so."""


class LogHealth(msgspec.Struct, frozen=True):
    """The position of the newest event, the safe end of the log, and the committed events after the safe end.

    Appends in flight hold these events back: readers get them only after the appends have ended. `error` says why the
    log cannot be read, else it is empty. Then readers get nothing, and `safe_end` is 0.
    """

    newest: int
    safe_end: int
    held_back: Lag
    error: str = ""


class ProjectionHealth(msgspec.Struct, frozen=True):
    """A projection, or one partition of it. A projection that runs inline has no position and no lag."""

    name: str
    partition: int
    partitions: int
    status: str
    position: int | None
    lag: Lag
    failed_position: int | None
    last_error: str
    needs_newer_code: bool

    @property
    def title(self) -> str:
        return self.name if self.partitions == 1 else f"{self.name} ({self.partition + 1} of {self.partitions})"


class Health(msgspec.Struct, frozen=True):
    """The health at one moment. `problems` has one sentence for each problem.

    `dead_receipts` is the number of dead messages in the inbox.
    """

    log: LogHealth
    projections: list[ProjectionHealth]
    destinations: list[DestinationHealth]
    dead_receipts: int
    problems: list[str]


def status(*, max_lag: float = 60.0) -> Health:
    """Read the health. A lag of more than `max_lag` seconds, a failed projection, a projection that needs newer code
    and a dead message are problems.

    Raise `StorageError` if the database fails, or inside a transaction that does not permit reading the log.
    """
    with storage_errors("read the status", connections[conf.settings().database]):
        log = _log()
        projections = [health for each in registered_projections().values() for health in _projection(each)]
        found = destinations()
        dead_receipts = _dead_receipts()
        overdue = _overdue_retries(max_lag)
    problems = [*_log_problems(log, max_lag)]
    for projection in projections:
        problems += _projection_problems(projection, max_lag)
    for destination in found:
        problems += problems_of(destination, max_lag)
    if dead_receipts:
        problems.append(
            ngettext("%d inbox message is dead", "%d inbox messages are dead", dead_receipts) % dead_receipts
        )
    problems += overdue
    return Health(log, projections, found, dead_receipts, problems)


def _events() -> QuerySet[StoredEvent]:
    return StoredEvent.objects.using(conf.settings().database)


def _lag(events: QuerySet[StoredEvent]) -> Lag:
    waiting = events.order_by("position")[: lag.MOST]
    oldest = waiting.annotate(age=Now() - F("recorded_at")).values_list("age", flat=True).first()
    return NO_LAG if oldest is None else Lag(waiting.count(), seconds_of(oldest))


def _log() -> LogHealth:
    newest = newest_position()
    try:
        end = store_for().safe_end()
    except LogOutOfOrder as error:
        return LogHealth(newest, 0, NO_LAG, str(error))
    # Leave out events that were committed after `newest` was read: nothing is known to hold them back.
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
        checkpoint.needs_newer_code,
    )


def _dead_receipts() -> int:
    receipts = InboxReceipt.objects.using(conf.settings().database)
    return receipts.filter(status=InboxReceipt.Status.DEAD)[: lag.MOST].count()


def _overdue_retries(max_lag: float) -> list[str]:
    # A handler that is alive has the status `handling`, for as long as it runs. The index holds both.
    handling, retrying = InboxReceipt.Status.HANDLING, InboxReceipt.Status.RETRYING
    overdue = InboxReceipt.objects.using(conf.settings().database).filter(
        status__in=(handling, retrying), retry_at__lt=Now() - timedelta(seconds=max_lag)
    )
    overdue = overdue.filter(Q(status=retrying) | Q(retry_at__lt=Now() - timedelta(seconds=max_lag + LONG_HANDLER)))
    count = overdue[: lag.MOST].count()
    if not count:
        return []
    text = ngettext(
        "%d inbox message has been due for its retry for more than %.0f s",
        "%d inbox messages have been due for their retry for more than %.0f s",
        count,
    )
    return [f"{text % (count, max_lag)}: does Celery beat run es_django.retry_handlers, and does a worker take it?"]


def _log_problems(log: LogHealth, max_lag: float) -> list[str]:
    if log.error:
        return [log.error]
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
        stored, now = projection.partitions, registered.partitions
        return [f"projection {name} does not run: its checkpoints are for {stored} partitions, but its class has {now}"]
    if projection.status == CheckpointStatus.FAILED:
        return [f"projection {name} has failed at position {projection.failed_position}"]
    if projection.needs_newer_code:
        fact = f"projection {name} needs newer code at position {projection.failed_position}"
        return [f"{fact} (status: {projection.status}): run a worker with the code that wrote this event"]
    if projection.lag.seconds > max_lag:
        return [f"projection {name} is {projection.lag.seconds:.0f} s behind (status: {projection.status})"]
    return []
