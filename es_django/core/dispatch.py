"""Methods chosen by the event class that their parameter is annotated with."""

import inspect
from collections.abc import Callable, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from es_django.core.errors import DefinitionError
from es_django.core.events import Event, RecordedEvent
from es_django.core.registry import registry


def marked_methods(cls: type, mark: str, *, parameters: int) -> dict[type[Event], Callable[..., None]]:
    """The methods of `cls` and its bases that carry `mark`, by event class; `event: A | B` makes one serve both.

    Raises `DefinitionError` for a method with another number of `parameters` behind self, an annotation that is
    no Event class, a second method for one class, or an override that lacks the mark of what it overrides.
    """
    _require_marked_overrides(cls, mark)
    inherited: dict[type[Event], Callable[..., None]] = {}
    for base in reversed(cls.__mro__):
        inherited |= _methods_of(base, mark, parameters)
    return inherited


def _methods_of(cls: type, mark: str, parameters: int) -> dict[type[Event], Callable[..., None]]:
    chosen: dict[type[Event], Callable[..., None]] = {}
    for name, method in vars(cls).items():
        if not hasattr(method, mark):
            continue
        for event_class in _annotated_classes(method, f"{cls.__qualname__}.{name}", parameters):
            if event_class in chosen:
                both = f"{chosen[event_class].__name__} and {name}"
                raise DefinitionError(f"{cls.__qualname__}: {both} both take {event_class.__name__}")
            chosen[event_class] = method
    return chosen


def batch_classes(method: Callable[..., None], where: str) -> list[type[Event]]:
    """The event classes of a method that takes `events: Sequence[RecordedEvent[A | B]]`.

    Raises `DefinitionError` if it is annotated otherwise.
    """
    annotation: Any = _first_annotation(method, where, 1, "self and the events")
    for generic in (Sequence, RecordedEvent):
        if get_origin(annotation) is not generic:
            raise DefinitionError(f"{where}: annotate the events as Sequence[RecordedEvent[EventClass]]")
        (annotation,) = get_args(annotation)
    return _event_classes(annotation, where)


def _require_marked_overrides(cls: type, mark: str) -> None:
    """Python would call the override and the dispatch what it overrides: one of the two is not meant."""
    for base in cls.__mro__[1:]:
        for name, method in vars(base).items():
            if hasattr(method, mark) and not hasattr(getattr(cls, name), mark):
                decorator = mark.removeprefix("_es_django_")
                raise DefinitionError(
                    f"{cls.__qualname__}.{name} overrides an @{decorator} method of {base.__qualname__} and would "
                    f"never be called: write @{decorator} above it, or give it another name"
                )


def _annotated_classes(method: Callable[..., None], where: str, parameters: int) -> list[type[Event]]:
    wanted = "self and the event" if parameters == 1 else "self, the event and the RecordedEvent"
    return _event_classes(_first_annotation(method, where, parameters, wanted), where)


def _first_annotation(method: Callable[..., None], where: str, parameters: int, wanted: str) -> Any:
    if inspect.iscoroutinefunction(method):
        raise DefinitionError(f"{where} must be a plain method, not an async one")
    names = list(inspect.signature(method).parameters)
    if len(names) != parameters + 1:
        raise DefinitionError(f"{where} takes {wanted}")
    try:
        return get_type_hints(method).get(names[1])
    except NameError as error:
        raise DefinitionError(f"{where}: an annotation cannot be resolved: {error}") from error


def _event_classes(annotation: Any, where: str) -> list[type[Event]]:
    is_union = get_origin(annotation) in (Union, UnionType)
    classes: list[Any] = list(get_args(annotation)) if is_union else [annotation]
    for event_class in classes:
        if not (isinstance(event_class, type) and issubclass(event_class, Event)) or event_class is Event:
            raise DefinitionError(f"{where}: annotate the event with its Event class, not {event_class!r}")
        registry.of(event_class)
    return classes
