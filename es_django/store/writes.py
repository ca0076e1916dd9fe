"""The writes that a caller passes to the event store, and the appends that a backend stores.

A write is checked and encoded, and its outbox messages are made, before anything is stored. So invalid input never
leaves half of a change behind.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Final, Literal
from uuid import UUID

import msgspec

from es_django import conf
from es_django.core.errors import PayloadError
from es_django.core.events import Event, PendingEvent, StagedEvent
from es_django.core.metadata import METADATA_COLUMNS
from es_django.core.serialization import encode_payload
from es_django.core.streams import NAME_RULE, StreamId, is_name, require_stream
from es_django.core.validation import is_position, require_many
from es_django.messages.message import Message, StagedMessage
from es_django.store.errors import DuplicateEvent, DuplicateMessage, DuplicateStream
from es_django.store.hooks import any_runs_inline, message_sources


class Expected(Enum):
    """The expected states of a stream, other than one exact version."""

    ANY = "any version"
    NO_STREAM = "no stream"
    STREAM_EXISTS = "an existing stream"

    def __str__(self) -> str:
        return self.value


ANY: Final = Expected.ANY
NO_STREAM: Final = Expected.NO_STREAM
STREAM_EXISTS: Final = Expected.STREAM_EXISTS

ExpectedVersion = int | Literal[Expected.ANY, Expected.NO_STREAM, Expected.STREAM_EXISTS]


class Snapshot(msgspec.Struct, frozen=True):
    """An aggregate's state as JSON, and the schema that says which code can read it."""

    schema: str
    state: str


class StreamWrite(msgspec.Struct, frozen=True):
    """Events to append to a stream that is at the `expected` version, and a snapshot of the state after the events.

    Without events, the write is a guard: it checks the version, and holds the stream until the transaction ends.
    """

    stream: StreamId
    events: Sequence[Event | PendingEvent]
    expected: ExpectedVersion
    snapshot: Snapshot | None = None


class Append(msgspec.Struct, frozen=True):
    """A checked and encoded write, with its outbox messages."""

    stream: StreamId
    events: Sequence[PendingEvent]
    expected: ExpectedVersion
    messages: Sequence[StagedMessage]
    metadata: Mapping[str, str]
    encoded_metadata: str
    """The metadata that has no column of its own, as JSON."""
    snapshot: Snapshot | None
    may_repeat: bool
    """Whether the append may be a repeat that the version check cannot detect."""
    runs_inline: bool
    """Whether an inline projection applies any of the events."""

    @property
    def version(self) -> int | None:
        """The version that the stream must have, or None if `expected` is not one version."""
        if self.expected is NO_STREAM:
            return 0
        return self.expected if isinstance(self.expected, int) else None


def prepare_all(writes: Sequence[StreamWrite], metadata: Mapping[str, str]) -> list[Append]:
    """Check and encode the writes. For invalid input, raise the errors of `EventStore.append_all`.

    Leave out the writes without events that expect any version, because they have no effect.
    """
    for write in writes:
        _require_well_formed(write)
    if len(writes) > 1:
        _require_distinct_streams(writes)
    encoded_metadata = _encoded(metadata) if metadata and any(write.events for write in writes) else "{}"
    appends = [
        _prepare(write, metadata, encoded_metadata) for write in writes if write.events or write.expected is not ANY
    ]
    _require_distinct_ids(appends)
    return appends


def stage(message: Message, ordinal: int) -> StagedMessage:
    """Encode the message. Raise `PayloadError` if it cannot be stored or its data has more than MAX_BYTES bytes."""
    data = encode_payload(message.data, message.type)
    limit = conf.settings().outbox.max_bytes
    if (size := len(data.encode())) > limit:
        advice = f'more than the {limit} of ES_DJANGO["OUTBOX"]["MAX_BYTES"]: send a reference to the data instead'
        raise PayloadError(message.type, "", f"has {size} bytes of data, {advice}")
    return StagedMessage(message, ordinal, data, encode_payload(message.headers, f"{message.type} headers"))


def _require_distinct_streams(writes: Sequence[StreamWrite]) -> None:
    seen: set[StreamId] = set()
    for write in writes:
        if write.stream in seen:
            raise DuplicateStream(write.stream)
        seen.add(write.stream)


def _require_distinct_ids(appends: Sequence[Append]) -> None:
    # Most appends return here, without building the lists below.
    if len(appends) == 1 and len(appends[0].events) < 2 and len(appends[0].messages) < 2:
        return
    if twice := _twice([event.event_id for append in appends for event in append.events]):
        raise DuplicateEvent(twice)
    if twice := _twice([staged.message.message_id for append in appends for staged in append.messages]):
        raise DuplicateMessage(twice)


def _twice(ids: list[UUID]) -> list[UUID]:
    # A set is much faster than Counter, which is needed only to name the duplicates.
    if len(ids) < 2 or len(set(ids)) == len(ids):
        return []
    return [each for each, count in Counter(ids).items() if count > 1]


def _require_well_formed(write: StreamWrite) -> None:
    require_stream(write.stream)
    require_many("events", write.events, Event, PendingEvent)
    expected = write.expected
    if not isinstance(expected, Expected) and not is_position(expected):
        raise ValueError(
            f"`expected` must be ANY, NO_STREAM, STREAM_EXISTS or a version (at least 0), got {expected!r}"
        )


def _prepare(write: StreamWrite, metadata: Mapping[str, str], encoded_metadata: str) -> Append:
    events = [event if isinstance(event, PendingEvent) else PendingEvent(event) for event in write.events]
    classes = {type(event.event) for event in events}
    messages = [] if classes.isdisjoint(message_sources) else list(_staged(write.stream, events, metadata))
    is_open = write.expected is ANY or write.expected is STREAM_EXISTS
    may_repeat = is_open and any(isinstance(event, PendingEvent) for event in write.events)
    return Append(
        write.stream,
        events,
        write.expected,
        messages,
        metadata,
        encoded_metadata,
        write.snapshot,
        may_repeat,
        any_runs_inline(classes),
    )


def _encoded(metadata: Mapping[str, str]) -> str:
    """Return the metadata that has no own column, as JSON. Raise `PayloadError` if a name or value cannot be stored."""
    for name in metadata.keys() & METADATA_COLUMNS:
        if not is_name(metadata[name]):
            raise PayloadError("metadata", name, f"{NAME_RULE}, got {metadata[name]!r:.80}")
    for name, value in metadata.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise PayloadError("metadata", str(name), f"name and value must be strings, got {value!r}")
    rest = {name: value for name, value in metadata.items() if name not in METADATA_COLUMNS}
    return encode_payload(rest, "metadata") if rest else "{}"


def _staged(stream: StreamId, events: Sequence[PendingEvent], metadata: Mapping[str, str]) -> Iterator[StagedMessage]:
    for ordinal, pending in enumerate(events, start=1):
        for source in message_sources.get(type(pending.event), ()):
            message = source(StagedEvent(stream, pending.own_event(), pending.event_id, dict(metadata)))
            if message is not None:
                yield stage(message, ordinal)
