"""Decide whether an append is new, repeats an earlier append, or conflicts with an earlier append.

A writer that loses the reply to its COMMIT cannot know whether its events were stored. It may append the same
`PendingEvent`s again. This module finds stored events by their ids, so no event is stored twice, and the writer never
mistakes its own append for a conflict. A plain `Event` gets a new id on each call, so it never repeats another append.

===========================================================  ============================  ========================
Events stored with the ids of the append                     Stream                        Answer
===========================================================  ============================  ========================
none                                                         at the expected version       insert the events
none                                                         at another version            `ConcurrencyError`
none                                                         archived                      `StreamArchived`
all, in this stream and order, right after the expected      any version, or archived      return the stored events
version (after any version, if none is expected)
all, in this stream and order, after another version         at the expected version       `DuplicateEvent`
all, in this stream and order, after another version         at another version            `ConcurrencyError`
all, in this stream and order, after another version         archived                      `StreamArchived`
only some, or in another order, or in another stream         any version, or archived      `DuplicateEvent`
===========================================================  ============================  ========================

An append to several streams must be new as a whole or a repeat as a whole. A mix raises `DuplicateEvent`.

An append that expects no version looks for its events before it inserts them. If another attempt at the same append
commits in between, the insert raises `DuplicateEvent`, and `EventStore.append_all` starts again.
"""

from collections.abc import Callable, Sequence
from uuid import UUID

from es_django.core.errors import EsDjangoError
from es_django.core.events import RecordedEvent
from es_django.store.base import EventStore
from es_django.store.errors import ConcurrencyError, DuplicateEvent, StreamArchived
from es_django.store.writes import Append

Insert = Callable[[Append], list[RecordedEvent] | None]
"""Insert the events of one append. Return None and insert nothing if the stream is archived, or is not at the expected
version. Raise `DuplicateEvent` if one of the events is already stored."""


def append_all_once(store: EventStore, appends: Sequence[Append], insert: Insert) -> tuple[list[RecordedEvent], bool]:
    """Append to each stream, in the caller's transaction. Return the events as stored, and whether they are new."""
    recorded: list[RecordedEvent] = []
    repeated: list[UUID] = []
    for append in appends:
        events, is_new = _append_once(store, append, insert)
        recorded += events
        if not is_new:
            repeated += [event.event_id for event in append.events]
    if not repeated:
        return recorded, True
    if len(repeated) < sum(len(append.events) for append in appends):
        raise DuplicateEvent(repeated)
    return recorded, False


def _append_once(store: EventStore, append: Append, insert: Insert) -> tuple[list[RecordedEvent], bool]:
    # With an expected version, the insert itself detects a repeat, so a new append needs no query before the insert.
    if append.may_repeat and (stored := _find_repeat(store, append)) is not None:
        return stored, False
    if (inserted := insert(append)) is not None:
        return inserted, True
    if (stored := _find_repeat(store, append)) is not None:
        return stored, False
    raise _conflict(store, append)


def _find_repeat(store: EventStore, append: Append) -> list[RecordedEvent] | None:
    """Return the stored events if the append repeats an earlier append, else None.

    Raise `DuplicateEvent` if only some of its events are stored, or if they are in another order or stream.
    """
    found = store._find_events([event.event_id for event in append.events])
    if not found:
        return None
    before = found[0][1] - 1
    if found != [(append.stream, version, event.event_id) for version, event in enumerate(append.events, before + 1)]:
        raise DuplicateEvent([event_id for *_, event_id in found])
    if append.version not in (None, before):
        return None
    return list(store._read_stream(append.stream, before, len(found), backwards=False))


def _conflict(store: EventStore, append: Append) -> EsDjangoError:
    version, is_archived = store._stream_state(append.stream)
    if is_archived:
        return StreamArchived(append.stream)
    return ConcurrencyError(append.stream, append.expected, version)
