"""The work that the outbox, the ledger and the statements still have to do."""

from dataclasses import dataclass
from uuid import UUID

from es_django.models import CheckpointStatus, InboxReceipt, OutboxMessage, ProjectionCheckpoint, StoredEvent
from testproject.bank.projections import Statements

LEDGER = OutboxMessage.objects.filter(destination="ledger")
OPEN = [OutboxMessage.Status.PENDING, OutboxMessage.Status.CLAIMED]


@dataclass(frozen=True)
class Backlog:
    messages: int
    unpublished: int
    unhandled: int
    events: int
    unprojected: int
    projection_failed: bool

    @classmethod
    def now(cls) -> "Backlog":
        checkpoint = ProjectionCheckpoint.objects.filter(name=Statements.name).first()
        position = checkpoint.position if checkpoint else 0
        unpublished = LEDGER.filter(status__in=OPEN).count()
        return cls(
            messages=LEDGER.count(),
            unpublished=unpublished,
            unhandled=unpublished + len(published_but_unhandled()),
            events=StoredEvent.objects.count(),
            unprojected=StoredEvent.objects.filter(position__gt=position).count(),
            projection_failed=checkpoint is not None and checkpoint.status == CheckpointStatus.FAILED,
        )

    @property
    def is_cleared(self) -> bool:
        """Whether all work is done. A failed projection counts as done, because it does not go on by itself."""
        return self.unpublished == 0 and self.unhandled == 0 and (self.unprojected == 0 or self.projection_failed)


def published_but_unhandled() -> set[UUID]:
    published = LEDGER.filter(status=OutboxMessage.Status.PUBLISHED).values_list("message_id", flat=True)
    receipts = InboxReceipt.objects.filter(consumer="ledger").values_list("message_id", flat=True)
    return set(published) - {UUID(message_id) for message_id in receipts}


def publish_again(message_ids: set[UUID]) -> None:
    """Reset messages to pending, so that a relay publishes them again. The ledger handles each message once."""
    LEDGER.filter(message_id__in=message_ids).update(status=OutboxMessage.Status.PENDING, attempts=0, published_at=None)
