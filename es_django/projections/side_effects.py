"""What a projection has told the outside of, over rebuilds and other numbers of partitions: a rebuild tells the rest.

It is kept as a list of what each partition has told, `[partition, partitions, position]`.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from itertools import groupby

from django.db import connections

from es_django import conf
from es_django.core.events import RecordedEvent
from es_django.core.instrumentation import Kind, Work
from es_django.models import ProjectionCheckpoint, StoredEvent
from es_django.projections.base import Projection
from es_django.store.base import Partition
from es_django.store.error_translation import require_healthy_transaction
from es_django.store.hooks import replaying

Told = list[list[int]]


def apply_events(projection: Projection, checkpoint: ProjectionCheckpoint, events: Sequence[RecordedEvent]) -> None:
    """Apply events, without their side effects where those are done already."""
    if not events:
        return
    told = told_positions(checkpoint.told or [], Partition(checkpoint.partition, checkpoint.partitions), events)
    with Work(Kind.PROJECT, projection.name, len(events), (recorded.metadata for recorded in events)):
        for again, group in groupby(events, key=lambda recorded: recorded.position in told):
            with replaying(again):
                projection.project_batch(list(group))
        require_healthy_transaction(f"run projection {projection.name}", connections[conf.settings().database])


def told_by(checkpoints: Iterable[ProjectionCheckpoint]) -> Told:
    """What these have told by now: each all up to its position, and what they knew to be told before."""
    furthest: defaultdict[tuple[int, int], int] = defaultdict(int)
    for each in checkpoints:
        for partition, partitions, position in [*(each.told or []), [each.partition, each.partitions, each.position]]:
            furthest[partition, partitions] = max(furthest[partition, partitions], position)
    return [[*share, position] for share, position in furthest.items() if position > 0]


def told_until(told: Told) -> int:
    """The position after which nothing has been told."""
    return max((position for _, _, position in told), default=0)


def told_positions(told: Told, own: Partition, events: Sequence[RecordedEvent]) -> Set[int]:
    """The positions of those of the events, all of the partition `own`, that have been told."""
    positions = {recorded.position for recorded in events}
    known = {position for position in positions if position <= _told_by_all(told, own)}
    # Where the partitions of another time differ, it depends on the event's stream.
    unclear = {position for position in positions - known if position <= told_until(told)}
    if unclear and any(partitions != own.count for _, partitions, _ in told):
        log = StoredEvent.objects.using(conf.settings().database).filter(position__in=unclear)
        for position, stream in log.values_list("position", "stream_id"):
            if any(position <= until and Partition(*share).holds(stream) for *share, until in told):
                known.add(position)
    return known


def _told_by_all(told: Told, own: Partition) -> int:
    """The position up to which every event of the partition `own` is sure to have been told."""
    furthest = {(partition, partitions): position for partition, partitions, position in told}
    wholes = [
        min(furthest.get((number, partitions), 0) for number in range(partitions))
        for partitions in {partitions for _, partitions in furthest}
    ]
    return max([furthest.get((own.number, own.count), 0), *wholes])
