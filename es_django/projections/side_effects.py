"""Remember which side effects of a projection are done. A rebuild repeats none of them, and does only missing ones.

A side effect is a message or an append that a projection makes. The side effects that are done are a list of
`[partition, partitions, position]`. Each entry says that partition number `partition` of `partitions` has done all its
side effects up to `position`. The list outlives rebuilds and changes of the number of partitions.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from itertools import groupby

from django.db import connections

from es_django import conf
from es_django.core.chunks import chunks
from es_django.core.events import RecordedEvent
from es_django.core.instrumentation import Kind, Work
from es_django.models import ProjectionCheckpoint, StoredEvent
from es_django.projections.base import Projection
from es_django.store.error_translation import require_healthy_transaction
from es_django.store.hooks import replaying
from es_django.store.reads import Partition

SideEffects = list[list[int]]


def apply_events(projection: Projection, checkpoint: ProjectionCheckpoint, events: Sequence[RecordedEvent]) -> None:
    """Apply events, but suppress side effects that are already done."""
    if not events:
        return
    own = Partition(checkpoint.partition, checkpoint.partitions)
    done = _done_positions(checkpoint.side_effects or [], own, events)
    with Work(Kind.PROJECT, projection.name, len(events), (recorded.metadata for recorded in events)):
        for is_done, group in groupby(events, key=lambda recorded: recorded.position in done):
            with replaying(is_done):
                projection.project_batch(list(group))
        require_healthy_transaction(f"run projection {projection.name}", connections[conf.settings().database])


def merged_side_effects(checkpoints: Iterable[ProjectionCheckpoint]) -> SideEffects:
    """Return the side effects that these checkpoints have done, before their last rebuild and since then."""
    furthest: defaultdict[tuple[int, int], int] = defaultdict(int)
    for each in checkpoints:
        own = [each.partition, each.partitions, each.position]
        for partition, partitions, position in [*(each.side_effects or []), own]:
            furthest[partition, partitions] = max(furthest[partition, partitions], position)
    return [[*share, position] for share, position in furthest.items() if position > 0]


def done_until(side_effects: SideEffects) -> int:
    """Return the highest position in the list. No side effect after it is done."""
    return max((position for _, _, position in side_effects), default=0)


def _done_positions(side_effects: SideEffects, own: Partition, events: Sequence[RecordedEvent]) -> Set[int]:
    """Return the positions of those `events` whose side effects are done. All events belong to the partition `own`."""
    positions = {recorded.position for recorded in events}
    done = {position for position in positions if position <= _done_by_all(side_effects, own)}
    # If the number of partitions has changed, the stream of an event shows in which old partition the event was.
    unclear = {position for position in positions - done if position <= done_until(side_effects)}
    if unclear and any(partitions != own.count for _, partitions, _ in side_effects):
        log = StoredEvent.objects.using(conf.settings().database)
        for chunk in chunks(unclear):
            for position, stream in log.filter(position__in=chunk).values_list("position", "stream_id"):
                if any(position <= until and Partition(*share).holds(stream) for *share, until in side_effects):
                    done.add(position)
    return done


def _done_by_all(side_effects: SideEffects, own: Partition) -> int:
    """Return the position up to which all side effects of the partition `own` are certainly done."""
    furthest = {(partition, partitions): position for partition, partitions, position in side_effects}
    wholes = [
        min(furthest.get((number, partitions), 0) for number in range(partitions))
        for partitions in {partitions for _, partitions in furthest}
    ]
    return max([furthest.get((own.number, own.count), 0), *wholes])
