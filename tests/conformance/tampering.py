"""Read and change the contents of a store without its methods, on every backend."""

import json
from typing import Any
from uuid import uuid4

import msgspec
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from es_django import Event, RecordedEvent, StreamId, event_store
from es_django.models import Snapshot as StoredSnapshot
from es_django.models import StoredEvent
from es_django.models import Stream as StoredStream
from es_django.store.backends import store_for
from es_django.store.memory import MemoryEventStore, _Stored
from es_django.store.writes import Snapshot


def snapshot_versions(stream: StreamId) -> dict[str, int]:
    """Return the version of each snapshot of the stream, by schema."""
    store = store_for()
    if isinstance(store, MemoryEventStore):
        return {snapshot.schema: version for version, snapshot in store._snapshots.get(stream, ())}
    return dict(_rows(stream).values_list("schema", "version"))


def snapshot_version(stream: StreamId) -> int | None:
    """Return the version of the stream's newest snapshot, or None without a snapshot."""
    return max(snapshot_versions(stream).values(), default=None)


def change_snapshot(stream: StreamId, **changes: Any) -> None:
    """Set `version`, `schema` or `state` of the stream's only snapshot."""
    store = store_for()
    if "state" in changes:
        changes["state"] = json.dumps(changes["state"])
    if isinstance(store, MemoryEventStore):
        ((version, snapshot),) = store._snapshots[stream]
        version = changes.pop("version", version)
        store._snapshots[stream] = [(version, msgspec.structs.replace(snapshot, **changes))]
    else:
        assert _rows(stream).update(**changes) == 1


def put_snapshot(stream: StreamId, version: int, snapshot: Snapshot) -> None:
    """Replace the stream's only snapshot by this one."""
    change_snapshot(stream, version=version, schema=snapshot.schema, state=json.loads(snapshot.state))


def delete_snapshot(stream: StreamId) -> None:
    store = store_for()
    if isinstance(store, MemoryEventStore):
        store._snapshots.pop(stream, None)
    else:
        _rows(stream).delete()


def add_events(stream: StreamId, *events: tuple[str, int, dict[str, Any]]) -> None:
    """Append events as another release would store them. Each event is a type, a schema version and a payload."""
    store, before = store_for(), event_store.version(stream)
    for version, (type, schema_version, data) in enumerate(events, start=before + 1):
        if isinstance(store, MemoryEventStore):
            position, at = len(store._log) + 1, timezone.now()
            recorded = RecordedEvent(stream, Event(), uuid4(), {}, version, position, type, schema_version, at)
            stored = _Stored(recorded, json.dumps(data))
            store._log.append(stored)
            store._streams[stream].append(stored)
            store._committed = len(store._log)
            continue
        row, _ = StoredStream.objects.update_or_create(
            category=stream.category, key=stream.key, defaults={"version": version}
        )
        StoredEvent.objects.create(
            stream=row,
            version=version,
            type=type,
            schema_version=schema_version,
            data=data,
            metadata={},
            event_id=uuid4(),
            recorded_at=timezone.now(),
        )


def forget_events(stream: StreamId, up_to: int) -> None:
    """Delete these events, or make them unreadable in memory, so that a test fails if they are read."""
    store = store_for()
    if isinstance(store, MemoryEventStore):
        events = store._streams[stream]
        events[:up_to] = [msgspec.structs.replace(stored, data="gone") for stored in events[:up_to]]
        return
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL es_django.maintenance = on")
        events_of_stream = StoredEvent.objects.filter(stream__category=stream.category, stream__key=stream.key)
        events_of_stream.filter(version__lte=up_to).delete()


def _rows(stream: StreamId) -> QuerySet[StoredSnapshot]:
    return StoredSnapshot.objects.filter(stream__category=stream.category, stream__key=stream.key)
