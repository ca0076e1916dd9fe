"""What the event store returns to readers: an aggregate's snapshot and events, a page of the log, a share of it."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from es_django.core.events import Event, RecordedEvent


class Loaded(msgspec.Struct, frozen=True):
    """The data from which an aggregate is folded.

    `snapshot` is a version and the encoded state at that version, or None if no snapshot fits. `tail` has each later
    version with the events that the upcasters make of it.
    """

    snapshot: tuple[int, str] | None
    tail: Iterator[tuple[int, Sequence[Event]]]


class Page(msgspec.Struct, frozen=True):
    """Some events of the log, in order.

    Read on from `position`. `has_more` says whether more events can be read now. A page without events may have more
    behind it, since upcasters may drop every event of a page.
    """

    events: Sequence[RecordedEvent]
    position: int
    has_more: bool = False


class Partition(msgspec.Struct, frozen=True):
    """One of `count` disjoint shares of all streams. `number` counts from 0. A stream belongs to one partition.

    Raises `ValueError` unless 0 <= number < count.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise ValueError(f"a partition of {self.count} has a number from 0 to {self.count - 1}, not {self.number}")

    def holds(self, stream_id: int) -> bool:
        """Return whether the stream with this id belongs to the partition, by the hash that the databases compute."""
        # Ids of related streams often differ by a constant, so a plain remainder would crowd them into few partitions.
        return (((stream_id & 0x7FFFFFFF) * 2654435761) >> 16) % self.count == self.number


ALL_STREAMS: Final = Partition(0, 1)
