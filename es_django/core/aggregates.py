"""Aggregates: objects whose state is a pure fold of their stream.

Nothing here knows Django or a database. A change is recorded as an event, applied by the same code that replays it,
and kept as pending until a repository has saved it.
"""

import copy
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from es_django.core.dispatch import marked_methods
from es_django.core.errors import DefinitionError
from es_django.core.events import Event, PendingEvent
from es_django.core.options import meta_options
from es_django.core.registry import registry
from es_django.core.replay_errors import UnappliedEvent
from es_django.core.streams import StreamId

Apply = Callable[[Any, Any], None]
ApplyT = TypeVar("ApplyT", bound=Apply)
IsCommitted = Callable[[], bool | None]
"""Tells of a save whether its transaction has committed (True), was rolled back (False) or is still open (None)."""

_APPLIES = "_es_django_applies"


def applies(method: ApplyT) -> ApplyT:
    """Marks an aggregate's method as the one that applies the event type its parameter is annotated with.

    `event: A | B` covers both. The method changes the aggregate's attributes and does nothing else.
    """
    if isinstance(method, type):
        raise DefinitionError(
            f"@applies({method.__name__}): write @applies alone; the annotation of the method's event tells its class"
        )
    setattr(method, _APPLIES, True)
    return method


def committed() -> bool:
    """The outcome of a save that needs no waiting for."""
    return True


class CategoryRegistry:
    """The categories of all aggregate classes. One that two classes claim stays visible as a conflict, for the system
    check, and using it raises `DefinitionError`: each would read the other's events."""

    def __init__(self) -> None:
        self._claims: dict[str, dict[str, type[Aggregate]]] = {}

    def register(self, cls: "type[Aggregate]") -> None:
        # By path: a module that is imported again replaces its classes.
        self._claims.setdefault(cls.category, {})[f"{cls.__module__}.{cls.__qualname__}"] = cls

    def aggregate_of(self, category: str) -> "type[Aggregate] | None":
        """The one class whose category it is; None if there is none, or more than one."""
        claims = list(self._claims.get(category, {}).values())
        return claims[0] if len(claims) == 1 else None

    def conflicts(self) -> dict[str, list[str]]:
        """The categories that more than one class claims, with the paths of those classes."""
        return {category: sorted(claims) for category, claims in self._claims.items() if len(claims) > 1}

    def require_unique(self, category: str) -> None:
        if len(claims := self._claims.get(category, ())) > 1:
            raise DefinitionError(
                f"{' and '.join(sorted(claims))} both have the category {category!r}: "
                "give one of them another Meta.category"
            )


categories: CategoryRegistry = CategoryRegistry()


class Aggregate:
    """The base of aggregate classes.

    Annotated class attributes are the state, with their initial values; each instance gets its own copy. A nested
    `class Meta` may set `category` (the class name in lower case where absent) and `snapshot_every`, a number of
    events (no snapshots where absent). Making an aggregate whose category another class has too raises
    `DefinitionError`.
    """

    category: ClassVar[str]
    snapshot_every: ClassVar[int | None]
    _appliers: ClassVar[dict[type[Event], Apply]]
    _initial_state: ClassVar[dict[str, Any]]

    def __init_subclass__(cls, **config: Any) -> None:
        super().__init_subclass__(**config)
        for base in cls.__mro__:
            if base is cls or not issubclass(base, Aggregate):
                _require_free_names(base)
        options = meta_options(cls, {"category", "snapshot_every"})
        cls.category = options.get("category", cls.__name__.lower())
        cls.snapshot_every = every = options.get("snapshot_every")
        if every is not None and (not isinstance(every, int) or every < 1):
            raise DefinitionError(f"{cls.__qualname__}.Meta.snapshot_every is a number from 1 on, not {every!r}")
        cls._initial_state = {}
        for base in reversed(cls.__mro__):
            if base not in Aggregate.__mro__:
                cls._initial_state |= _initial_values(base)
        cls._appliers = marked_methods(cls, _APPLIES, parameters=1)
        categories.register(cls)

    @classmethod
    def _stream_of(cls, key: str) -> StreamId:
        categories.require_unique(cls.category)
        return StreamId(cls.category, key)

    def __init__(self, key: str) -> None:
        self._stream = self._stream_of(key)
        self._unsettled: list[tuple[int, IsCommitted]] = []
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
        """The version with all pending events."""
        return self._base_version + len(self._pending)

    @property
    def committed_version(self) -> int:
        """The version that the store has, as far as this object knows; lower again after a rollback."""
        self._settle()
        return self._unsettled[-1][0] if self._unsettled else self._base_version

    @property
    def pending_events(self) -> list[Event]:
        """The events that the next save will append, oldest first."""
        return [pending.event for pending in self._unsaved()]

    def record(self, event: Event) -> None:
        """Applies the event, then keeps it as pending.

        If the event cannot be stored (`PayloadError`), no method applies it (`TypeError`), or applying raises, then
        nothing is kept and the state is as before. Raises `RuntimeError` in an @applies method: replaying the event
        would record another one each time.
        """
        if self._applying:
            raise RuntimeError(
                f"{type(self).__name__} records {type(event).__name__} while an event is applied: an @applies method "
                "changes attributes only; record both events in the command"
            )
        pending = PendingEvent(event)
        apply = self._appliers.get(type(event))
        if apply is None:
            name = type(event).__name__
            raise TypeError(f"{type(self).__name__} has no @applies method for {name}; write one, if only with pass")
        if self._undo is None:
            self._undo = (len(self._pending), copy.deepcopy(self._state()))
        self._applying = True
        try:
            # What is stored of it, as a replay will: it may be another one in what `==` does not see.
            apply(self, pending.decoded())
        except BaseException:
            self._undo_apply(*self._undo)
            raise
        finally:
            self._applying = False
        self._pending.append(pending)

    def _undo_apply(self, since: int, state: dict[str, Any]) -> None:
        """Folds the state anew, from the last time that it was copied; copying it for each event would cost more."""
        self._become(copy.deepcopy(state))
        for pending in self._pending[since:]:
            self._appliers[type(pending.event)](self, pending.decoded())

    def _state(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _OWN_ATTRIBUTES}

    def _become(self, state: dict[str, Any]) -> None:
        for name in self._state():
            del self.__dict__[name]
        self.__dict__.update(state)

    def _restore(self, version: int, state: dict[str, Any]) -> None:
        self._become(state)
        self._base_version = version

    def _replay(self, stored: Iterable[tuple[int, Sequence[Event]]]) -> None:
        """Applies what each stored version holds: one event, or as many as upcasting made of it."""
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

    def _identify_pending(self, event_id: Callable[[int], UUID]) -> None:
        """Gives the pending events the ids of the numbers from 1 on."""
        self._pending = [PendingEvent(each.event, event_id(number)) for number, each in enumerate(self._pending, 1)]

    def _saved(self, version: int, outcome: IsCommitted) -> None:
        """Counts the events up to `version` as stored, for as long as `outcome` does not say that they were rolled
        back."""
        self._unsettled.append((version, outcome))

    def _settle(self) -> None:
        while self._unsettled and self._unsettled[0][1]() is True:
            version, _ = self._unsettled.pop(0)
            del self._pending[: version - self._base_version]
            self._undo = None
            self._base_version = version
        for index, (_, outcome) in enumerate(self._unsettled):
            if outcome() is False:
                # A save that came later rests on this one, so it is gone with it.
                del self._unsettled[index:]
                break


_OWN_ATTRIBUTES = frozenset({"_stream", "_unsettled", "_pending", "_base_version", "_undo", "_applying"})
_CLASS_ATTRIBUTES = frozenset(inspect.get_annotations(Aggregate))
_TAKEN_NAMES = _OWN_ATTRIBUTES | _CLASS_ATTRIBUTES | {name for name in vars(Aggregate) if name[:2] != "__"}


def _require_free_names(cls: type) -> None:
    names = vars(cls).keys() | inspect.get_annotations(cls).keys()
    if taken := names & _TAKEN_NAMES:
        raise DefinitionError(f"{cls.__qualname__}: every aggregate has {', '.join(sorted(taken))} already")


def _initial_values(cls: type) -> dict[str, Any]:
    hints = inspect.get_annotations(cls)
    values = {name: value for name, value in vars(cls).items() if name not in _CLASS_ATTRIBUTES}
    mutable = {name for name, value in values.items() if type(value).__hash__ is None and name[:2] != "__"}
    if unannotated := mutable - hints.keys():
        raise DefinitionError(
            f"{cls.__qualname__}: all instances would share {', '.join(sorted(unannotated))}; annotate what is state"
        )
    return {name: values[name] for name, hint in hints.items() if name in values and "ClassVar" not in str(hint)}
