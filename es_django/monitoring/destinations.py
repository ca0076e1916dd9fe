"""How the messages to each destination fare, seen from the database: what a dead relay has claimed, and what waits for
a destination that the settings no longer have, shows too.

Of each destination and status the `MOST` oldest messages are looked at.
"""

from collections.abc import Iterator

import msgspec
from django.db.models import Count, Max, Min, Q, QuerySet
from django.db.models.functions import Now

from es_django import conf
from es_django.models import OutboxMessage
from es_django.monitoring import lag
from es_django.monitoring.lag import NO_LAG, Lag, lag_of

Status = OutboxMessage.Status
SHOWN = (Status.PENDING, Status.CLAIMED, Status.DEAD)
DUE = Q(available_at__lte=Now())
HELD = Q(claimed_until__gt=Now())


class DestinationHealth(msgspec.Struct, frozen=True):
    """The messages to a destination: `ready` to be claimed, and since when due; `in_flight`, claimed by a relay;
    `backing_off`, failed and not yet due again, and since when they are there; and `dead`, given up.

    `is_known` tells whether the settings have the destination.
    """

    name: str
    is_known: bool
    ready: Lag
    in_flight: int
    backing_off: Lag
    dead: int

    @property
    def is_open(self) -> bool:
        return bool(self.ready.count or self.in_flight or self.backing_off.count)


def destinations() -> list[DestinationHealth]:
    """All that are configured, in the order of the settings, and then the others that have messages open or dead."""
    known = list(conf.settings().destinations)
    others = {name for status in SHOWN for name in _destinations(status)} - {*known}
    return [_destination(name, name in known) for name in [*known, *sorted(others)]]


def problems_of(destination: DestinationHealth, max_lag: float) -> Iterator[str]:
    """A sentence for each thing that somebody should look at."""
    name, ready, failing = destination.name, destination.ready, destination.backing_off
    if destination.is_open and not destination.is_known:
        yield f'messages to {name} wait, and ES_DJANGO["DESTINATIONS"] does not have it: configure it, or discard them'
    elif ready.seconds > max_lag:
        yield f"messages to {name} have been due for {ready.seconds:.0f} s"
    if destination.is_known and failing.seconds > max_lag:
        yield f"{failing.count} messages to {name} failed and are to be tried again, one after {failing.seconds:.0f} s"
    if destination.dead:
        yield f"{destination.dead} messages to {name} are dead"


def _destination(name: str, is_known: bool) -> DestinationHealth:
    failing = Q(attempts__gt=0) & ~DUE
    pending = _oldest(Status.PENDING, name).aggregate(
        now=Max(Now()),
        ready=Count("pk", filter=DUE),
        due_since=Min("available_at", filter=DUE),
        failing=Count("pk", filter=failing),
        there_since=Min("created_at", filter=failing),
    )
    claimed = _oldest(Status.CLAIMED, name).aggregate(
        now=Max(Now()),
        held=Count("pk", filter=HELD),
        lost=Count("pk", filter=~HELD),
        due_since=Min("available_at", filter=~HELD),
    )
    ages = [each["now"] - each["due_since"] for each in (pending, claimed) if each["due_since"]]
    ready = lag_of(pending["ready"] + claimed["lost"], max(ages, default=None))
    backing_off = NO_LAG
    if pending["failing"]:
        backing_off = lag_of(pending["failing"], pending["now"] - pending["there_since"])
    dead = _oldest(Status.DEAD, name).count()
    return DestinationHealth(name, is_known, ready, claimed["held"], backing_off, dead)


def _oldest(status: str, destination: str) -> QuerySet[OutboxMessage]:
    return _messages(status).filter(destination=destination).order_by("id")[: lag.MOST]


def _destinations(status: str) -> Iterator[str]:
    """The destinations of messages, each found by one step down an index, however many messages it has."""
    names = _messages(status).order_by("destination").values_list("destination", flat=True)
    name = names.first()
    while name is not None:
        yield name
        name = names.filter(destination__gt=name).first()


def _messages(status: str) -> QuerySet[OutboxMessage]:
    return OutboxMessage.objects.using(conf.settings().database).filter(status=status)
