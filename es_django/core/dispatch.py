"""Find the method for an event class, by the annotation of the method's parameter."""

import inspect
from collections.abc import Callable, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from es_django.core.errors import DefinitionError
from es_django.core.events import Event, RecordedEvent
from es_django.core.registry import registry


def marked_methods(cls: type, mark: str, *, parameters: int) -> dict[type[Event], Callable[..., None]]:
    """Return, for each event class, the method of `cls` or a base that takes it and has the attribute `mark`.

    A method with `event: A | B` is returned for both classes. Raise `DefinitionError` for:
    - a method that does not take `parameters` parameters after self,
    - an annotation that is not an Event class,
    - two methods of one class for the same event class,
    - an override that lacks the mark of the overridden method.
    """
    _require_marked_overrides(cls, mark)
    methods: dict[type[Event], Callable[..., None]] = {}
    for base in reversed(cls.__mro__):
        methods |= _methods_of(base, mark, parameters)
    return methods


def _methods_of(cls: type, mark: str, parameters: int) -> dict[type[Event], Callable[..., None]]:
    methods: dict[type[Event], Callable[..., None]] = {}
    for name, method in vars(cls).items():
        if not hasattr(method, mark):
            continue
        for event_class in _annotated_classes(method, f"{cls.__qualname__}.{name}", parameters):
            if event_class in methods:
                both = f"{methods[event_class].__name__} and {name}"
                raise DefinitionError(f"{cls.__qualname__}: {both} both take {event_class.__name__}; keep one of them")
            methods[event_class] = method
    return methods


def batch_classes(method: Callable[..., None], where: str) -> list[type[Event]]:
    """Return the event classes of a method that takes `events: Sequence[RecordedEvent[A | B]]`.

    Raise `DefinitionError` for any other annotation. `where` is the method's name in error messages.
    """
    annotation: Any = _first_annotation(method, where, 1, "self and the events")
    for generic in (Sequence, RecordedEvent):
        if get_origin(annotation) is not generic:
            raise DefinitionError(f"{where}: annotate the events as Sequence[RecordedEvent[EventClass]]")
        (annotation,) = get_args(annotation)
    return _event_classes(annotation, where)


def _require_marked_overrides(cls: type, mark: str) -> None:
    # A direct call would run the override, but the dispatch would run the overridden method.
    for base in cls.__mro__[1:]:
        for name, method in vars(base).items():
            if hasattr(method, mark) and not hasattr(getattr(cls, name), mark):
                decorator = mark.removeprefix("_es_django_")
                raise DefinitionError(
                    f"{cls.__qualname__}.{name} overrides an @{decorator} method of {base.__qualname__} and would "
                    f"never be called: add @{decorator}, or choose another name"
                )


def _annotated_classes(method: Callable[..., None], where: str, parameters: int) -> list[type[Event]]:
    wanted = "self and the event" if parameters == 1 else "self, the event and the RecordedEvent"
    return _event_classes(_first_annotation(method, where, parameters, wanted), where)


def _first_annotation(method: Callable[..., None], where: str, parameters: int, wanted: str) -> Any:
    if inspect.iscoroutinefunction(method):
        raise DefinitionError(f"{where} must be a plain method, not an async one")
    names = list(inspect.signature(method).parameters)
    if len(names) != parameters + 1:
        raise DefinitionError(f"{where} must take {wanted}")
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
