"""The Django models of events, snapshots, outbox, inbox, projections and leases."""

from es_django.models.inbox import InboxReceipt
from es_django.models.leases import Lease
from es_django.models.outbox import OutboxMessage
from es_django.models.projections import CheckpointStatus, ProjectionCheckpoint, SkippedEvent
from es_django.models.streams import Snapshot, StoredEvent, Stream

__all__ = [
    "CheckpointStatus",
    "InboxReceipt",
    "Lease",
    "OutboxMessage",
    "ProjectionCheckpoint",
    "SkippedEvent",
    "Snapshot",
    "StoredEvent",
    "Stream",
]
