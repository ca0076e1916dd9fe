"""What an append sets off in its own transaction: messages to publish and inline projections to move.

The parts above register here, so that the store calls them without importing them.
"""

from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING, Protocol

from es_django.events import Event, RecordedEvent, StagedEvent

if TYPE_CHECKING:
    from es_django.store.messages import Message

MessageSource = Callable[[StagedEvent], "Message | None"]


class InlineProjection(Protocol):
    @property
    def event_classes(self) -> Set[type[Event]]: ...

    def apply(self, events: Sequence[RecordedEvent]) -> None: ...


message_sources: dict[type[Event], list[MessageSource]] = {}
inline_projections: list[InlineProjection] = []
after_messages: list[Callable[[str], None]] = []
"""Called with the database alias in a transaction that wrote messages."""
