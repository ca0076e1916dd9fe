"""Where a message of the outbox stands: its status, and for one that is still open, what it waits for."""

from collections.abc import Mapping
from typing import NamedTuple

from django.db.models import Q
from django.db.models.functions import Now

from es_django.models import OutboxMessage

Status = OutboxMessage.Status


class Standing(NamedTuple):
    label: str
    rows: Q


STANDINGS: Mapping[str, Standing] = {
    "ready": Standing("Ready", Q(status=Status.PENDING, available_at__lte=Now())),
    "delayed": Standing("Delayed", Q(status=Status.PENDING, attempts=0, available_at__gt=Now())),
    "backing_off": Standing("Backing off", Q(status=Status.PENDING, attempts__gt=0, available_at__gt=Now())),
    "in_flight": Standing("In flight", Q(status=Status.CLAIMED, claimed_until__gt=Now())),
    "abandoned": Standing("Abandoned", Q(status=Status.CLAIMED, claimed_until__lte=Now())),
    "published": Standing("Published", Q(status=Status.PUBLISHED)),
    "dead": Standing("Dead", Q(status=Status.DEAD)),
    "discarded": Standing("Discarded", Q(status=Status.DISCARDED)),
}
"""By the word that stands in URLs. Whoever has claimed an abandoned message has not settled it in time."""
