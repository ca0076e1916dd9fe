"""Event sourcing and a transactional outbox for Django.

The names below are the public ones. They are imported on first use, so that `INSTALLED_APPS` can load this package
before the app registry is ready.
"""

from typing import TYPE_CHECKING

from es_django.public import on_first_use

if TYPE_CHECKING:
    from es_django.aggregates import Aggregate as Aggregate
    from es_django.aggregates import applies as applies
    from es_django.errors import AggregateNotFound as AggregateNotFound
    from es_django.errors import ConcurrencyError as ConcurrencyError
    from es_django.errors import EsDjangoError as EsDjangoError
    from es_django.errors import HandlerRejected as HandlerRejected
    from es_django.errors import ReplayError as ReplayError
    from es_django.errors import StorageError as StorageError
    from es_django.events import Event as Event
    from es_django.events import PendingEvent as PendingEvent
    from es_django.events import RecordedEvent as RecordedEvent
    from es_django.events import StagedEvent as StagedEvent
    from es_django.events import StreamId as StreamId
    from es_django.inbox.handlers import handles as handles
    from es_django.outbox.messages import publishes as publishes
    from es_django.projections.base import Projection as Projection
    from es_django.projections.base import projects as projects
    from es_django.registry import upcasts as upcasts
    from es_django.repository import Repository as Repository
    from es_django.schedule import beat_schedule as beat_schedule
    from es_django.store import event_store as event_store
    from es_django.store.appends import ANY as ANY
    from es_django.store.appends import NO_STREAM as NO_STREAM
    from es_django.store.appends import STREAM_EXISTS as STREAM_EXISTS
    from es_django.store.appends import StreamWrite as StreamWrite
    from es_django.store.base import Page as Page
    from es_django.store.messages import Message as Message

_HOME = {
    "ANY": "store.appends",
    "Aggregate": "aggregates",
    "AggregateNotFound": "errors",
    "ConcurrencyError": "errors",
    "EsDjangoError": "errors",
    "Event": "events",
    "HandlerRejected": "errors",
    "Message": "store.messages",
    "NO_STREAM": "store.appends",
    "Page": "store.base",
    "PendingEvent": "events",
    "Projection": "projections.base",
    "RecordedEvent": "events",
    "ReplayError": "errors",
    "Repository": "repository",
    "STREAM_EXISTS": "store.appends",
    "StagedEvent": "events",
    "StorageError": "errors",
    "StreamId": "events",
    "StreamWrite": "store.appends",
    "applies": "aggregates",
    "beat_schedule": "schedule",
    "event_store": "store",
    "handles": "inbox.handlers",
    "projects": "projections.base",
    "publishes": "outbox.messages",
    "upcasts": "registry",
}

__all__ = sorted([*_HOME, "outbox"])  # noqa: PLE0605

__getattr__, __dir__ = on_first_use(__name__, _HOME)
