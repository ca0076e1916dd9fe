"""Projections: code that keeps a read model up to date from events."""

from collections.abc import Callable, Collection, Sequence, Set
from typing import Any, ClassVar, TypeVar

from django.db.models import Model

from es_django.core.dispatch import batch_classes, marked_methods
from es_django.core.errors import DefinitionError
from es_django.core.events import Event, RecordedEvent
from es_django.core.options import meta_options
from es_django.core.streams import require_name
from es_django.projections.errors import UnknownProjection
from es_django.store.hooks import inline_projections

Projector = Callable[[Any, Any, RecordedEvent], None]
ProjectorT = TypeVar("ProjectorT", bound=Projector)

_PROJECTS = "_es_django_projects"


def projects(method: ProjectorT) -> ProjectorT:
    """Marks a projection's method as the one that applies the event class its first parameter is annotated with.

    It gets the event and the `RecordedEvent` around it.
    """
    setattr(method, _PROJECTS, True)
    return method


class Projection:
    """The base of projections.

    A nested `class Meta` sets `name`; `mode`, "inline" (in the transaction of the append; where absent) or "async"
    (from a checkpoint); `models`, those that it alone writes, which a rebuild empties; and, in async mode,
    `partitions`, how many runners may share it. Each partition follows some of the streams, so what belongs to several
    streams may be written from several partitions at once. What a projection raises in inline mode undoes the append.

    Events are applied one by one by the methods marked with `@projects`, or all that were saved together, or read in
    one batch, by one method `project_batch(self, events: Sequence[RecordedEvent[EventClass]])`.
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
            raise DefinitionError(f'{cls.__qualname__}.Meta.mode is "inline" or "async", not {cls.mode!r}')
        if type(cls.partitions) is not int or cls.partitions < 1:
            raise DefinitionError(f"{cls.__qualname__}.Meta.partitions is a number from 1 on")
        if cls.partitions > 1 and cls.is_inline():
            raise DefinitionError(f"{cls.__qualname__}.Meta.partitions: an inline projection has no runners")
        cls._projectors = {**getattr(cls, "_projectors", {}), **marked_methods(cls, _PROJECTS, parameters=2)}
        cls.event_classes = frozenset(cls._batch_classes() or cls._projectors)
        if not cls.event_classes:
            raise DefinitionError(
                f"{cls.__qualname__} follows no event: mark a method with @projects, or write project_batch"
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
            raise DefinitionError(f"{cls.__qualname__} has project_batch and @projects methods: keep one of them")
        return batch_classes(cls.project_batch, f"{cls.__qualname__}.project_batch")

    def project_batch(self, events: Sequence[RecordedEvent[Any]]) -> None:
        """Applies events, in order, each by the method for its class."""
        for recorded in events:
            self._projectors[type(recorded.event)](self, recorded.event, recorded)


_registered: dict[str, Projection] = {}


def registered_projections() -> dict[str, Projection]:
    """All projections by name, in the order of registration."""
    return dict(_registered)


def projection_named(name: str) -> Projection:
    """The projection of that name. Raises `UnknownProjection`."""
    if name not in _registered:
        raise UnknownProjection(name, list(_registered))
    return _registered[name]


def _models(given: Any, where: str) -> Sequence[type[Model]]:
    is_list = isinstance(given, Collection) and not isinstance(given, str)
    if not is_list or not all(isinstance(each, type) and issubclass(each, Model) for each in given):
        raise DefinitionError(f"{where} is a list of model classes, not {given!r}")
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
