"""The registry of hooks that run with an append: sources of outbox messages and inline projections.

The outbox and the projections register here, so the store can call them without importing them.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from es_django.core.events import Event, RecordedEvent, StagedEvent

if TYPE_CHECKING:
    from es_django.messages.message import Message

MessageSource = Callable[[StagedEvent], "Message | None"]


class InlineProjection(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def event_classes(self) -> Set[type[Event]]: ...

    def project_batch(self, events: Sequence[RecordedEvent]) -> None: ...


message_sources: dict[type[Event], list[MessageSource]] = {}
inline_projections: list[InlineProjection] = []
after_messages: list[Callable[[str], None]] = []
"""Functions called with the database alias after outbox messages were stored. The transaction may still be open."""

_replaying: ContextVar[bool] = ContextVar("es_django_replaying", default=False)


def is_replaying() -> bool:
    """Return whether a projection is now applying events that it has applied before, as in a rebuild.

    During a replay no outbox message is stored, and an append raises `AppendInReplay`. Call this function before your
    code calls other systems. Call it before you pass a callback to `transaction.on_commit`, because it always returns
    False inside the callback.
    """
    return _replaying.get()


@contextmanager
def replaying(again: bool) -> Iterator[None]:
    """Make `is_replaying()` return `again` within the block."""
    token = _replaying.set(again)
    try:
        yield
    finally:
        _replaying.reset(token)


def any_runs_inline(event_classes: Set[type[Event]]) -> bool:
    """Return whether an inline projection applies events of any of these classes."""
    # This loop runs on every append. any() with a generator takes three times as long.
    for projection in inline_projections:  # noqa: SIM110
        if not projection.event_classes.isdisjoint(event_classes):
            return True
    return False


def run_inline_projections(recorded: Sequence[RecordedEvent], *, skip: Set[str] = frozenset()) -> None:
    """Apply the events to the inline projections that handle their classes, in order of registration.

    Each projection gets events of its own, so that no change of a payload reaches the next projection or the caller.
    Leave out the projections named in `skip`.
    """
    for projection in inline_projections:
        if projection.name in skip:
            continue
        events = [event.own() for event in recorded if type(event.event) in projection.event_classes]
        if events:
            projection.project_batch(events)
