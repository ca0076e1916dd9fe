"""The number of messages in each `MessageState`, for each destination, read from the database.

The numbers include the claims of relays that died, and messages to destinations that were removed from the settings.
A status is divided into states, which are counted among the `lag.MOST` oldest messages of the status and destination.
"""

from collections.abc import Iterator

import msgspec
from django.db.models import Count, Max, Min, QuerySet
from django.db.models.functions import Now
from django.utils.translation import ngettext

from es_django import conf
from es_django.models import OutboxMessage
from es_django.monitoring import lag
from es_django.monitoring.lag import seconds_of
from es_django.outbox.states import OPEN, MessageState, Status

COUNTED_STATUSES = (Status.PENDING, Status.CLAIMED, Status.DEAD)
COUNTED_STATES = tuple(state for state in MessageState if state.status in COUNTED_STATUSES)
WAITING_SINCE = {
    MessageState.READY: "available_at",
    MessageState.ABANDONED: "available_at",
    MessageState.BACKING_OFF: "created_at",
}


class DestinationHealth(msgspec.Struct, frozen=True):
    """The messages to one destination.

    - `is_known` is False if the settings do not have the destination.
    - `counts` holds the number of messages in each of the `COUNTED_STATES`.
    - `due_seconds` is the time for which the oldest ready or abandoned message has been due.
    - `backing_off_seconds` is the age of the oldest message that is backing off.
    """

    name: str
    is_known: bool
    counts: dict[MessageState, int]
    due_seconds: float
    backing_off_seconds: float

    @property
    def has_open_messages(self) -> bool:
        return any(count for state, count in self.counts.items() if state.status in OPEN)


def destinations() -> list[DestinationHealth]:
    """Return the configured destinations in the order of the settings, then others that have open or dead messages."""
    known = list(conf.settings().destinations)
    others = {name for status in COUNTED_STATUSES for name in _destinations(status)} - {*known}
    return [_destination(name, name in known) for name in [*known, *sorted(others)]]


def problems_of(destination: DestinationHealth, max_lag: float) -> Iterator[str]:
    """Yield one sentence for each problem of a destination. A lag of more than `max_lag` seconds is a problem."""
    name, counts = destination.name, destination.counts
    if destination.has_open_messages and not destination.is_known:
        yield f'messages to {name} wait, but ES_DJANGO["DESTINATIONS"] does not have it: configure it, or discard them'
    elif destination.due_seconds > max_lag:
        yield f"messages to {name} have been due for {destination.due_seconds:.0f} s"
    if destination.is_known and destination.backing_off_seconds > max_lag:
        count = counts[MessageState.BACKING_OFF]
        failing = ngettext("%d message to %s is failing", "%d messages to %s are failing", count) % (count, name)
        yield f"{failing} and will be retried; the oldest was written {destination.backing_off_seconds:.0f} s ago"
    if dead := counts[MessageState.DEAD]:
        yield ngettext("%d message to %s is dead", "%d messages to %s are dead", dead) % (dead, name)


def _destination(name: str, is_known: bool) -> DestinationHealth:
    counts: dict[MessageState, int] = {}
    seconds: dict[MessageState, float] = {}
    for status in COUNTED_STATUSES:
        states = [state for state in COUNTED_STATES if state.status is status]
        found = (
            _messages(status)
            .filter(destination=name)
            .order_by("id")[: lag.MOST]
            .aggregate(
                now=Max(Now()),
                **{state.value: Count("pk", filter=state.query) for state in states},
                **{
                    f"{state}_since": Min(WAITING_SINCE[state], filter=state.query)
                    for state in states
                    if state in WAITING_SINCE
                },
            )
        )
        for state in states:
            counts[state] = found[state]
            since = found.get(f"{state}_since")
            seconds[state] = 0.0 if since is None else seconds_of(found["now"] - since)
    due = max(seconds[MessageState.READY], seconds[MessageState.ABANDONED])
    return DestinationHealth(name, is_known, counts, due, seconds[MessageState.BACKING_OFF])


def _destinations(status: Status) -> Iterator[str]:
    """Yield the destinations that have messages of this status, each with one lookup in the index."""
    names = _messages(status).order_by("destination").values_list("destination", flat=True)
    name = names.first()
    while name is not None:
        yield name
        name = names.filter(destination__gt=name).first()


def _messages(status: Status) -> QuerySet[OutboxMessage]:
    return OutboxMessage.objects.using(conf.settings().database).filter(status=status)
