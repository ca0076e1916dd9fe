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
only some, or in another order, or in another stream, or     any version, or archived      `DuplicateEvent`
with another type, schema version or payload
===========================================================  ============================  ========================

Metadata does not count: a second attempt may have another correlation id. The stored events keep theirs. Inside the
caller's transaction, `EventStore.append_all` raises `AlreadyAppended` instead of returning the stored events.

An append to several streams must be new as a whole or a repeat as a whole. A mix raises `DuplicateEvent`.

An append that expects no version looks for its events before it inserts them. If another attempt at the same append
commits in between, the insert raises `DuplicateEvent`, and `EventStore.append_all` starts again.
"""

from collections.abc import Callable, Sequence
from itertools import takewhile
from uuid import UUID

from es_django.core.equality import is_same
from es_django.core.errors import EsDjangoError
from es_django.core.events import PendingEvent, RecordedEvent
from es_django.core.registry import registry
from es_django.core.replay_errors import ReplayError
from es_django.store.base import EventStore
from es_django.store.errors import AggregateExists, ConcurrencyError, DuplicateEvent, StreamArchived
from es_django.store.writes import STREAM_EXISTS, Append

Insert = Callable[[Append], list[RecordedEvent] | None]
"""Insert the events of one append. Return None and insert nothing if the stream is archived, or is not at the expected
version. Raise `DuplicateEvent` if one of the events is already stored."""


def append_all_once(store: EventStore, appends: Sequence[Append], insert: Insert) -> tuple[list[RecordedEvent], bool]:
    """Append to each stream, in the caller's transaction. Return the events as stored, and whether they are new."""
    refused = _hold_streams(store, appends)
    recorded: list[RecordedEvent] = []
    repeated: list[UUID] = []
    for append in appends:
        if not append.events:
            continue
        events, is_new = _append_once(store, append, insert)
        recorded += events
        if not is_new:
            repeated += [event.event_id for event in append.events]
    if repeated:
        if len(repeated) < sum(len(append.events) for append in appends):
            raise DuplicateEvent(repeated)
        return recorded, False
    if refused is not None:
        raise refused
    return recorded, True


def _hold_streams(store: EventStore, appends: Sequence[Append]) -> ConcurrencyError | None:
    """Lock the streams if the appends alone would not. Return the error of the first failed guard, if any.

    The error is not raised yet: if the appends turn out to be a repeat, their first run has passed its guards.
    """
    # All writers lock streams in this order, so they cannot deadlock. Each append locks its own stream, so appends in
    # this order need no locks beforehand.
    streams = [append.stream for append in appends]
    if all(append.events for append in appends) and (len(streams) == 1 or streams == sorted(streams)):
        return None
    streams.sort()
    versions = dict(zip(streams, store._hold(streams), strict=True))
    for append in appends:
        version = versions[append.stream]
        fits = version > 0 if append.expected is STREAM_EXISTS else append.version in (None, version)
        if not append.events and not fits:
            return _conflict_at(append, version)
    return None


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

    Raise `DuplicateEvent` if only some of its events are stored, if they are in another order or stream, or if they
    have another type, schema version or payload.
    """
    found = store._find_events([event.event_id for event in append.events])
    if not found:
        return None
    before = found[0][1] - 1
    if found != [(append.stream, version, event.event_id) for version, event in enumerate(append.events, before + 1)]:
        raise DuplicateEvent([event_id for *_, event_id in found])
    try:
        events = store._read_stream(append.stream, before, len(found), backwards=False)
        stored = list(takewhile(lambda event: event.version <= before + len(found), events))
    except ReplayError as error:
        # Current code cannot have written what it cannot read.
        raise DuplicateEvent([event_id for *_, event_id in found]) from error
    if len(stored) != len(found) or not all(map(_is_equal, append.events, stored)):
        raise DuplicateEvent([event_id for *_, event_id in found])
    return stored if append.version in (None, before) else None


def _is_equal(pending: PendingEvent, stored: RecordedEvent) -> bool:
    event_type = registry.of(type(pending.event))
    return (
        stored.type in (event_type.name, *event_type.aliases)
        and stored.schema_version == event_type.version
        # Both were decoded from the form that jsonb returns, so the order of keys and the form of numbers are equal.
        and is_same(pending.decoded(), stored.event)
    )


def _conflict(store: EventStore, append: Append) -> EsDjangoError:
    version, is_archived = store._stream_state(append.stream)
    if is_archived:
        return StreamArchived(append.stream)
    return _conflict_at(append, version)


def _conflict_at(append: Append, version: int) -> ConcurrencyError:
    kind = AggregateExists if append.version == 0 and version > 0 else ConcurrencyError
    return kind(append.stream, append.expected, version)
