"""The types of reads: the snapshot and events of an aggregate, a page of the log, and a partition of the streams."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from es_django.core.events import Event, RecordedEvent


class Loaded(msgspec.Struct, frozen=True):
    """The data from which a repository restores an aggregate.

    `snapshot` is a version and the encoded state at that version, or None if no snapshot has the wanted schema. `tail`
    yields each later version with its events, after upcasting.
    """

    snapshot: tuple[int, str] | None
    tail: Iterator[tuple[int, Sequence[Event]]]


class Page(msgspec.Struct, frozen=True):
    """Some events of the log, in order.

    To read the next page, pass `position` as `after`. `has_more` says whether more events can be read now. Even a page
    without events may have more events after it, because upcasters may drop every event of a page.
    """

    events: Sequence[RecordedEvent]
    position: int
    has_more: bool = False


class Partition(msgspec.Struct, frozen=True):
    """One of `count` disjoint shares of all streams. `number` counts from 0. Each stream belongs to one partition.

    Raise `ValueError` unless 0 <= number < count.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise ValueError(
                f"the number of a partition must be at least 0 and less than the count, got number {self.number} of "
                f"{self.count}"
            )

    def holds(self, stream_id: int) -> bool:
        """Return whether the stream with this id belongs to the partition, by the same hash as in the SQL."""
        # Ids of related streams often differ by a constant, so a plain remainder would crowd them into few partitions.
        return (((stream_id & 0x7FFFFFFF) * 2654435761) >> 16) % self.count == self.number


ALL_STREAMS: Final = Partition(0, 1)
