"""Every error of es_django under one import path.

Each package defines its errors in its own `errors.py`. To add an error, define a dataclass there, import it here, and
add an example to `tests/test_errors.py`.
"""

from es_django.core.errors import DefinitionError as DefinitionError
from es_django.core.errors import EsDjangoError as EsDjangoError
from es_django.core.errors import InvalidStreamId as InvalidStreamId
from es_django.core.errors import PayloadError as PayloadError
from es_django.core.replay_errors import MissingUpcaster as MissingUpcaster
from es_django.core.replay_errors import ReplayError as ReplayError
from es_django.core.replay_errors import UnappliedEvent as UnappliedEvent
from es_django.core.replay_errors import UndecodableEvent as UndecodableEvent
from es_django.core.replay_errors import UnknownEventType as UnknownEventType
from es_django.core.replay_errors import UnsupportedEventVersion as UnsupportedEventVersion
from es_django.core.replay_errors import UpcastError as UpcastError
from es_django.core.retryability import is_retryable as is_retryable
from es_django.inbox.errors import BatchTooLarge as BatchTooLarge
from es_django.inbox.errors import HandlerInterrupted as HandlerInterrupted
from es_django.inbox.errors import HandlerRejected as HandlerRejected
from es_django.inbox.errors import HandlerRetry as HandlerRetry
from es_django.inbox.errors import NotReplayable as NotReplayable
from es_django.messages.errors import InvalidCloudEvent as InvalidCloudEvent
from es_django.outbox.errors import ClaimLost as ClaimLost
from es_django.outbox.errors import DestinationRefuses as DestinationRefuses
from es_django.outbox.errors import DestinationUnreachable as DestinationUnreachable
from es_django.outbox.errors import PublishError as PublishError
from es_django.outbox.errors import UnknownDestination as UnknownDestination
from es_django.projections.errors import ModeChanged as ModeChanged
from es_django.projections.errors import PartitionsChanged as PartitionsChanged
from es_django.projections.errors import ProjectionStatusError as ProjectionStatusError
from es_django.projections.errors import ProjectionTimeout as ProjectionTimeout
from es_django.projections.errors import UnknownProjection as UnknownProjection
from es_django.store.errors import AggregateExists as AggregateExists
from es_django.store.errors import AggregateNotFound as AggregateNotFound
from es_django.store.errors import AlreadyAppended as AlreadyAppended
from es_django.store.errors import AppendInReplay as AppendInReplay
from es_django.store.errors import ConcurrencyError as ConcurrencyError
from es_django.store.errors import DuplicateEvent as DuplicateEvent
from es_django.store.errors import DuplicateMessage as DuplicateMessage
from es_django.store.errors import DuplicateStream as DuplicateStream
from es_django.store.errors import LeaseLost as LeaseLost
from es_django.store.errors import LeaseTaken as LeaseTaken
from es_django.store.errors import LockTimeout as LockTimeout
from es_django.store.errors import LogOutOfOrder as LogOutOfOrder
from es_django.store.errors import StorageError as StorageError
from es_django.store.errors import StreamArchived as StreamArchived
from es_django.store.errors import TooManyLocks as TooManyLocks
