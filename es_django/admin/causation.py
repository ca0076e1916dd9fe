"""The causes and effects of an event, as a bounded tree of events and messages.

If a handler records an event, the causation id of the event is the id of the handled message. A message stores the
stream and version of its source event. Both references are indexed.
"""

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import TypeVar
from uuid import UUID

import msgspec
from django.db.models import Q, QuerySet

from es_django import conf
from es_django.models import OutboxMessage, StoredEvent

MAX_CAUSES = 10
MAX_EFFECTS = 50
MAX_DEPTH = 10

Row = StoredEvent | OutboxMessage
RowT = TypeVar("RowT", StoredEvent, OutboxMessage)


class Node(msgspec.Struct):
    """An event or a message, with its effects."""

    row: Row
    effects: list["Node"] = []


class Causation(msgspec.Struct):
    """A tree that begins with the first known cause of an event, leads to the event, and ends with its effects.

    `is_cut` is true if some causes or effects were left out.
    """

    root: Node
    is_cut: bool

    @property
    def is_alone(self) -> bool:
        return not self.root.effects


def causation_of(event: StoredEvent) -> Causation:
    node = Node(event)
    effects_cut = _add_effects(node)
    causes, causes_cut = _causes(event)
    for cause in causes:
        node = Node(cause, [node])
    return Causation(node, effects_cut or causes_cut)


def _causes(event: StoredEvent) -> tuple[list[Row], bool]:
    """Return at most `MAX_CAUSES` causes, the nearest first, and whether there are more."""
    causes: list[Row] = []
    seen, row = {("StoredEvent", event.pk)}, _cause(event)
    while row is not None and (type(row).__name__, row.pk) not in seen:
        if len(causes) == MAX_CAUSES:
            return causes, True
        causes.append(row)
        seen.add((type(row).__name__, row.pk))
        row = _cause(row)
    return causes, False


def _cause(row: Row) -> Row | None:
    if isinstance(row, OutboxMessage):
        if row.stream_id is None or row.stream_version is None:
            return None
        return _events().filter(stream_id=row.stream_id, version=row.stream_version).first()
    try:
        cause = UUID(row.causation_id or "")
    except ValueError:
        return None
    return _messages().filter(message_id=cause).first() or _events().filter(event_id=cause).first()


def _add_effects(root: Node) -> bool:
    """Add the effects of the root, level by level. Return whether some effects were left out."""
    level, room, seen = [root], MAX_EFFECTS, {root.row.pk}
    for _ in range(MAX_DEPTH):
        found, messages_cut = _at_most(room, _messages_of(level))
        messages = [Node(message) for message in found]
        room -= len(messages)
        sources = {_source(node.row): node for node in level}
        for node in messages:
            sources[_source(node.row)].effects.append(node)
        causes = {_id(node.row): node for node in (*level, *messages)}
        caused, events_cut = _at_most(room, _events().filter(causation_id__in=causes).exclude(pk__in=seen))
        room -= len(caused)
        seen |= {event.pk for event in caused}
        level = [Node(event) for event in caused]
        for event, node in zip(caused, level, strict=True):
            causes[event.causation_id or ""].effects.append(node)
        if messages_cut or events_cut:
            return True
        if not level:
            return False
    return True


def _messages_of(events: Iterable[Node]) -> QuerySet[OutboxMessage]:
    sources = [Q(stream_id=stream, stream_version=version) for stream, version in map(_source, (n.row for n in events))]
    return _messages().filter(reduce(or_, sources))


def _source(row: Row) -> tuple[int | None, int | None]:
    return row.stream_id, row.version if isinstance(row, StoredEvent) else row.stream_version


def _at_most(count: int, rows: QuerySet[RowT]) -> tuple[list[RowT], bool]:
    """Return the oldest `count` rows, and whether there are more."""
    found = list(rows.order_by("pk")[: count + 1])
    return found[:count], len(found) > count


def _id(row: Row) -> str:
    return str(row.event_id if isinstance(row, StoredEvent) else row.message_id)


def _events() -> QuerySet[StoredEvent]:
    return StoredEvent.objects.using(conf.settings().database).select_related("stream").defer("data", "metadata")


def _messages() -> QuerySet[OutboxMessage]:
    return OutboxMessage.objects.using(conf.settings().database).select_related("stream").defer("data", "headers")
