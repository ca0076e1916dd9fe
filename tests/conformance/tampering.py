"""Reads and spoils what a store keeps, behind its back, on every backend alike."""

import json
from typing import Any

import msgspec
from django.db import connection, transaction
from django.db.models import QuerySet

from es_django import StreamId
from es_django.models import Snapshot as StoredSnapshot
from es_django.models import StoredEvent
from es_django.store import store_for
from es_django.store.base import Snapshot
from es_django.store.memory import MemoryEventStore


def snapshot_version(stream: StreamId) -> int | None:
    """The version of the stream's snapshot; None if there is none."""
    store = store_for()
    if isinstance(store, MemoryEventStore):
        return store._snapshots[stream][0] if stream in store._snapshots else None
    return _rows(stream).values_list("version", flat=True).first()


def change_snapshot(stream: StreamId, **changes: Any) -> None:
    """Sets `version`, `schema` or `state` of the stream's snapshot."""
    store = store_for()
    if isinstance(store, MemoryEventStore):
        version, snapshot = store._snapshots[stream]
        version = changes.pop("version", version)
        encoded = {name: json.dumps(value) if name == "state" else value for name, value in changes.items()}
        store._snapshots[stream] = (version, msgspec.structs.replace(snapshot, **encoded))
    else:
        assert _rows(stream).update(**changes) == 1


def put_snapshot(stream: StreamId, version: int, snapshot: Snapshot) -> None:
    """Sets the stream's snapshot, which exists, to this one."""
    change_snapshot(stream, version=version, schema=snapshot.schema, state=json.loads(snapshot.state))


def delete_snapshot(stream: StreamId) -> None:
    store = store_for()
    if isinstance(store, MemoryEventStore):
        store._snapshots.pop(stream, None)
    else:
        _rows(stream).delete()


def forget_events(stream: StreamId, up_to: int) -> None:
    """Makes these events of the stream gone, or no longer what they were, so that reading them would be noticed."""
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
