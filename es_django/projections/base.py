"""The base class of projections, and their registry."""

from collections.abc import Callable, Collection, Sequence, Set
from typing import Any, ClassVar, TypeVar

from django.db.models import Model

from es_django.core.dispatch import batch_classes, marked_methods
from es_django.core.errors import DefinitionError
from es_django.core.events import Event, RecordedEvent
from es_django.core.options import meta_options
from es_django.core.streams import require_name
from es_django.core.validation import require_count
from es_django.projections.errors import UnknownProjection
from es_django.store.hooks import inline_projections

Projector = Callable[[Any, Any, RecordedEvent], None]
ProjectorT = TypeVar("ProjectorT", bound=Projector)

_PROJECTS = "_es_django_projects"


def projects(method: ProjectorT) -> ProjectorT:
    """Mark a method of a projection that applies one class of events.

    The annotation of the method's first parameter names that class. The method gets the event and its `RecordedEvent`.
    """
    setattr(method, _PROJECTS, True)
    return method


class Projection:
    """The base class of projections.

    A nested `class Meta` sets:

    - `name`: identifies the projection and its checkpoints.
    - `mode`: "inline" (the default) applies events in the transaction of their append. An error rolls the append back.
      "async" applies events after the commit, from a checkpoint.
    - `models`: the models that only this projection writes. A rebuild empties them.
    - `partitions` (async mode only): how many runners may share the projection. Each partition follows some of the
      streams. Two partitions may write at once to a row that depends on streams of both.

    Write one method for each event class and mark it with `@projects`. Or write one method for batches,
    `project_batch(self, events: Sequence[RecordedEvent[EventClass]])`. A batch holds events that were saved together
    (inline) or read together (async).
    """

    name: ClassVar[str]
    mode: ClassVar[str]
    models: ClassVar[Sequence[type[Model]]]
    partitions: ClassVar[int]
    event_classes: ClassVar[Set[type[Event]]]
    _projectors: ClassVar[dict[type[Event], Projector]]

    def __init_subclass__(cls, **config: Any) -> None:
        super().__init_subclass__(**config)
        options = meta_options(cls, {"name", "mode", "models", "partitions"})
        cls.name = require_name(f"{cls.__qualname__}.Meta.name", options.get("name"), DefinitionError)
        cls.mode = options.get("mode", "inline")
        cls.models = _models(options.get("models", ()), f"{cls.__qualname__}.Meta.models")
        cls.partitions = options.get("partitions", 1)
        if cls.mode not in ("inline", "async"):
            raise DefinitionError(f'{cls.__qualname__}.Meta.mode must be "inline" or "async", not {cls.mode!r}')
        require_count(f"{cls.__qualname__}.Meta.partitions", cls.partitions, DefinitionError)
        if cls.partitions > 1 and cls.is_inline():
            raise DefinitionError(f'{cls.__qualname__}.Meta.partitions needs mode = "async"')
        cls._projectors = {**getattr(cls, "_projectors", {}), **marked_methods(cls, _PROJECTS, parameters=2)}
        cls.event_classes = frozenset(cls._batch_classes() or cls._projectors)
        if not cls.event_classes:
            raise DefinitionError(
                f"{cls.__qualname__} follows no events: mark a method with @projects, or write project_batch"
            )
        _register(cls())

    @classmethod
    def is_inline(cls) -> bool:
        return cls.mode == "inline"

    @classmethod
    def _batch_classes(cls) -> list[type[Event]]:
        if cls.project_batch is Projection.project_batch:
            return []
        if cls._projectors:
            raise DefinitionError(f"{cls.__qualname__} has both project_batch and @projects methods: keep one kind")
        return batch_classes(cls.project_batch, f"{cls.__qualname__}.project_batch")

    def project_batch(self, events: Sequence[RecordedEvent[Any]]) -> None:
        """Apply events in order. Each event goes to the `@projects` method for its class."""
        for recorded in events:
            self._projectors[type(recorded.event)](self, recorded.event, recorded)


_registered: dict[str, Projection] = {}


def registered_projections() -> dict[str, Projection]:
    """Return all projections by name, in the order of registration."""
    return dict(_registered)


def projection_named(name: str) -> Projection:
    """Return the projection with this name. Raise `UnknownProjection` if it is not registered."""
    if name not in _registered:
        raise UnknownProjection(name, list(_registered))
    return _registered[name]


def _models(given: Any, where: str) -> Sequence[type[Model]]:
    is_list = isinstance(given, Collection) and not isinstance(given, str)
    if not is_list or not all(isinstance(each, type) and issubclass(each, Model) for each in given):
        raise DefinitionError(f"{where} must be a list of model classes, not {given!r}")
    return tuple(given)


def _register(projection: Projection) -> None:
    known = _registered.get(projection.name)
    if known is not None:
        if _path(known) != _path(projection):
            raise DefinitionError(f"{_path(known)} and {_path(projection)} are both named {projection.name!r}")
        if known in inline_projections:
            inline_projections.remove(known)
    _registered[projection.name] = projection
    if projection.is_inline():
        inline_projections.append(projection)


def _path(projection: Projection) -> str:
    return f"{type(projection).__module__}.{type(projection).__qualname__}"
