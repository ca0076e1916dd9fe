"""Aggregates: objects whose state is computed from the events of their stream.

An aggregate records each change as an event. The same @applies methods run when the event is recorded and when it is
replayed. A recorded event stays pending until a repository saves it.
"""

import copy
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from es_django.core.categories import CategoryRegistry
from es_django.core.dispatch import marked_methods
from es_django.core.errors import DefinitionError
from es_django.core.events import Event, PendingEvent
from es_django.core.options import meta_options
from es_django.core.registry import registry
from es_django.core.replay_errors import UnappliedEvent
from es_django.core.streams import StreamId
from es_django.core.validation import require_count

Apply = Callable[[Any, Any], None]
ApplyT = TypeVar("ApplyT", bound=Apply)
IsCommitted = Callable[[], bool | None]
"""Return True if the transaction of a save was committed, False if it was rolled back, and None while it is open."""

_APPLIES = "_es_django_applies"


def applies(method: ApplyT) -> ApplyT:
    """Mark a method that applies events. The annotation of the method's parameter names the event class.

    With `event: A | B`, the method applies both classes. The method may change only the aggregate's attributes.
    """
    if isinstance(method, type):
        raise DefinitionError(
            f"@applies({method.__name__}): write @applies without an argument, and annotate the method's parameter "
            "with the event class"
        )
    setattr(method, _APPLIES, True)
    return method


def already_committed() -> bool:
    """Return True: a save outside a transaction is committed when it returns."""
    return True


categories: "CategoryRegistry[Aggregate]" = CategoryRegistry()


class Aggregate:
    """The base of aggregate classes.

    Annotated class attributes define the state and its initial values. Each instance gets its own copy of the values.

    A nested `class Meta` may set:
    - `category`: the category of the streams. Default: the class name in lower case.
    - `snapshot_every`: the number of events after which a snapshot is saved. Default: no snapshots.
    - `snapshot_version`: an integer. Increase it when changed code computes a different state from the same events, so
      that older snapshots are ignored. Default: 1.

    Creating an instance raises `DefinitionError` if another class has the same category.
    """

    category: ClassVar[str]
    snapshot_every: ClassVar[int | None]
    snapshot_version: ClassVar[int]
    _appliers: ClassVar[dict[type[Event], Apply]]
    _initial_state: ClassVar[dict[str, Any]]

    def __init_subclass__(cls, **config: Any) -> None:
        super().__init_subclass__(**config)
        for base in cls.__mro__:
            if base is cls or not issubclass(base, Aggregate):
                _require_free_names(base)
        options = meta_options(cls, {"category", "snapshot_every", "snapshot_version"})
        cls.category = options.get("category", cls.__name__.lower())
        cls.snapshot_every = options.get("snapshot_every")
        cls.snapshot_version = options.get("snapshot_version", 1)
        if cls.snapshot_every is not None:
            require_count(f"{cls.__qualname__}.Meta.snapshot_every", cls.snapshot_every, DefinitionError)
        require_count(f"{cls.__qualname__}.Meta.snapshot_version", cls.snapshot_version, DefinitionError)
        cls._initial_state = {}
        for base in reversed(cls.__mro__):
            if base not in Aggregate.__mro__:
                cls._initial_state |= _initial_values(base)
        cls._appliers = marked_methods(cls, _APPLIES, parameters=1)
        categories.register(cls.category, cls)

    @classmethod
    def _stream_of(cls, key: str) -> StreamId:
        categories.require_unique(cls.category)
        return StreamId(cls.category, key)

    def __init__(self, key: str) -> None:
        self._stream = self._stream_of(key)
        self._uncommitted_saves: list[tuple[int, IsCommitted]] = []
        self._pending: list[PendingEvent] = []
        self._base_version = 0
        self._undo: tuple[int, dict[str, Any]] | None = None
        self._applying = False
        self.__dict__.update(copy.deepcopy(self._initial_state))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key!r} version {self.version}>"

    @property
    def key(self) -> str:
        return self._stream.key

    @property
    def stream(self) -> StreamId:
        return self._stream

    @property
    def version(self) -> int:
        """The version that the stream has once all pending events are saved."""
        return self._base_version + len(self._pending)

    @property
    def committed_version(self) -> int:
        """The version of the last saved event.

        If the transaction of a save is rolled back, this is the version before that save again.
        """
        self._check_saves()
        return self._uncommitted_saves[-1][0] if self._uncommitted_saves else self._base_version

    @property
    def pending_events(self) -> list[Event]:
        """The events that the next save appends, oldest first."""
        return [pending.own_event() for pending in self._unsaved()]

    def record(self, event: Event) -> None:
        """Apply the event and add it to the pending events.

        After an error, the state is unchanged and the event is not pending. Raises:
        - `PayloadError` if the event cannot be stored,
        - `TypeError` if no @applies method takes the event,
        - `RuntimeError` if an @applies method calls `record`, because each replay would record another event,
        - any error of the @applies method.
        """
        if self._applying:
            raise RuntimeError(
                f"{type(self).__name__} records {type(event).__name__} inside an @applies method, which may change "
                f"only attributes: record {type(event).__name__} in the method that records the event being applied"
            )
        pending = PendingEvent(event)
        apply = self._appliers.get(type(event))
        if apply is None:
            name = type(event).__name__
            raise TypeError(
                f"{type(self).__name__} has no @applies method for {name}; add one, even if its body is pass"
            )
        if self._undo is None:
            self._undo = (len(self._pending), copy.deepcopy(self._state()))
        self._applying = True
        try:
            # Apply a decoded copy, as a replay does. The copy can differ from `event` in ways that `==` ignores, such
            # as 1 and 1.0.
            apply(self, pending.decoded())
        except BaseException:
            self._undo_apply(*self._undo)
            raise
        finally:
            self._applying = False
        self._pending.append(pending)

    def _undo_apply(self, copied_at: int, state: dict[str, Any]) -> None:
        """Restore the copied state, and apply the events recorded since the copy. A copy per event would cost more."""
        self._replace_state(copy.deepcopy(state))
        for pending in self._pending[copied_at:]:
            self._appliers[type(pending.event)](self, pending.decoded())

    def _state(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _OWN_ATTRIBUTES}

    def _replace_state(self, state: dict[str, Any]) -> None:
        for name in self._state():
            del self.__dict__[name]
        self.__dict__.update(state)

    def _restore(self, version: int, state: dict[str, Any]) -> None:
        self._replace_state(state)
        self._base_version = version

    def _replay(self, stored: Iterable[tuple[int, Sequence[Event]]]) -> None:
        """Apply stored events. Each version has one event, or as many events as its upcasters returned."""
        appliers = self._appliers
        self._applying = True
        try:
            for version, events in stored:
                for event in events:
                    apply = appliers.get(type(event))
                    if apply is None:
                        name = type(event).__name__
                        reason = f"{type(self).__name__} has no @applies method for {name}"
                        raise UnappliedEvent(self._stream, version, registry.of(type(event)).name, reason)
                    apply(self, event)
                self._base_version = version
        finally:
            self._applying = False

    def _unsaved(self) -> list[PendingEvent]:
        return self._pending[self.committed_version - self._base_version :]

    def _assign_event_ids(self, event_id: Callable[[int], UUID]) -> None:
        """Set the id of each pending event to `event_id(number)`. The first event has number 1."""
        self._pending = [PendingEvent(each.event, event_id(number)) for number, each in enumerate(self._pending, 1)]

    def _mark_saved(self, version: int, is_committed: IsCommitted) -> None:
        """Treat the events up to `version` as saved, unless `is_committed` later reports a rollback."""
        self._uncommitted_saves.append((version, is_committed))

    def _check_saves(self) -> None:
        """Drop the pending events of committed saves, and forget the saves that were rolled back."""
        saves = self._uncommitted_saves
        while saves and saves[0][1]() is True:
            version, _ = saves.pop(0)
            del self._pending[: version - self._base_version]
            self._undo = None
            self._base_version = version
        for index, (_, is_committed) in enumerate(saves):
            if is_committed() is False:
                # The later saves appended after these events, so they were rolled back too.
                del saves[index:]
                break


_OWN_ATTRIBUTES = frozenset({"_stream", "_uncommitted_saves", "_pending", "_base_version", "_undo", "_applying"})
_CLASS_ATTRIBUTES = frozenset(inspect.get_annotations(Aggregate))
_TAKEN_NAMES = _OWN_ATTRIBUTES | _CLASS_ATTRIBUTES | {name for name in vars(Aggregate) if name[:2] != "__"}


def _require_free_names(cls: type) -> None:
    names = vars(cls).keys() | inspect.get_annotations(cls).keys()
    if taken := names & _TAKEN_NAMES:
        raise DefinitionError(
            f"{cls.__qualname__}: every aggregate already has {', '.join(sorted(taken))}; choose another name"
        )


def _initial_values(cls: type) -> dict[str, Any]:
    hints = inspect.get_annotations(cls)
    values = {name: value for name, value in vars(cls).items() if name not in _CLASS_ATTRIBUTES}
    mutable = {name for name, value in values.items() if type(value).__hash__ is None and name[:2] != "__"}
    if unannotated := mutable - hints.keys():
        raise DefinitionError(
            f"{cls.__qualname__}: all instances would share {', '.join(sorted(unannotated))}; "
            "add a type annotation, so that each instance gets a copy"
        )
    return {name: values[name] for name, hint in hints.items() if name in values and "ClassVar" not in str(hint)}
