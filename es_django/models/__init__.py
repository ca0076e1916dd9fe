from es_django.models.inbox import InboxReceipt as InboxReceipt
from es_django.models.leases import Lease as Lease
from es_django.models.outbox import OutboxMessage as OutboxMessage
from es_django.models.projections import ProjectionCheckpoint as ProjectionCheckpoint
from es_django.models.projections import SkippedEvent as SkippedEvent
from es_django.models.streams import Snapshot as Snapshot
from es_django.models.streams import StoredEvent as StoredEvent
from es_django.models.streams import Stream as Stream
