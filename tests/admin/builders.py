"""Build rows for the tests of the admin: events through the public store, other rows directly in their tables."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from django.urls import reverse

from es_django import ANY, Aggregate, Event, RecordedEvent, StreamId, applies, event_store
from es_django.models import InboxReceipt, OutboxMessage, ProjectionCheckpoint, Snapshot, StoredEvent, Stream

NOON = datetime(2026, 3, 1, 12, 0, 5, 250_000, tzinfo=UTC)


class Noted(Event):
    note: Any

    class Meta:
        name = "tests.admin.noted"


class Note(Aggregate):
    text: Any = None
    edits: int = 0

    class Meta:
        category = "note"

    @applies
    def _noted(self, event: Noted) -> None:
        if event.note == "unreadable":
            raise LookupError("no such <note>")
        self.text = event.note
        self.edits += 1


def notes(
    count: int = 1, *, key: str = "note-1", category: str = "note", note: object = None, **metadata: str
) -> list[RecordedEvent]:
    """Append `count` events. By default the note of each event is its version."""
    stream = StreamId(category, key)
    version = event_store.version(stream)
    events = [Noted(note=f"note {version + n}" if note is None else note) for n in range(1, count + 1)]
    return event_store.append(stream, events, expected=ANY, metadata=metadata)


def stream_of(key: str = "note-1", category: str = "note") -> Stream:
    return Stream.objects.get(category=category, key=key)


def stored_event(version: int, key: str = "note-1") -> StoredEvent:
    return StoredEvent.objects.get(stream__key=key, version=version)


STATUS_COLUMNS: dict[str, dict[str, Any]] = {
    "pending": {},
    "claimed": {"claimed_by": "worker-1", "claimed_until": NOON, "attempts": 1},
    "published": {"published_at": NOON, "attempts": 1},
    "dead": {"failed_at": NOON, "attempts": 10, "last_error": "the mailbox is <full>"},
    "discarded": {"failed_at": NOON},
}


def message(status: str = "pending", **columns: Any) -> OutboxMessage:
    given = {
        "message_id": uuid4(),
        "destination": "ledger",
        "type": "tests.announced",
        "key": "note-1",
        "data": {"announced": "<script>alert(1)</script>"},
        "headers": {"correlation_id": "request-7"},
        "status": status,
        **STATUS_COLUMNS[status],
        **columns,
    }
    return OutboxMessage.objects.create(**given)


def receipt(**columns: Any) -> InboxReceipt:
    return InboxReceipt.objects.create(
        **{"consumer": "mailer", "message_id": str(uuid4()), "status": "handled", **columns}
    )


def checkpoint(**columns: Any) -> ProjectionCheckpoint:
    return ProjectionCheckpoint.objects.create(**{"name": "totals", **columns})


def one_of_each() -> Sequence[Any]:
    """Return a saved row of each model that has pages in the admin."""
    notes()
    snapshot = Snapshot.objects.create(stream=stream_of(), version=1, schema="Note:1", state='{"text":"note 1"}')
    return [stream_of(), stored_event(1), snapshot, message(), receipt(), checkpoint()]


def list_url(model: type[Any]) -> str:
    return reverse(f"admin:es_django_{model._meta.model_name}_changelist")


def page_url(row: Any) -> str:
    return reverse(f"admin:es_django_{row._meta.model_name}_change", args=[row.pk])
