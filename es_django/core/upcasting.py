"""`@upcasts`: the functions that turn the payload of an old schema version of an event into the current one."""

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import TypeVar

import msgspec

from es_django.core.errors import DefinitionError
from es_django.core.registry import Upcaster, registry

UpcasterT = TypeVar("UpcasterT", bound=Upcaster)


def upcasts(cls: type[msgspec.Struct], *, from_version: int) -> Callable[[UpcasterT], UpcasterT]:
    """Register a pure function that turns the payload of schema version `from_version` into that of the next version.

    The function takes a dict and returns a dict. If the old event became several events or none, the function returns a
    list of dicts.

    Raise `DefinitionError` if:
    - `cls` is not a subclass of Event,
    - `from_version` is not below the current version of `cls`, or
    - another function upcasts from the same version.
    """
    event_type = registry.of(cls)
    if not 1 <= from_version < event_type.version:
        raise DefinitionError(
            f"@upcasts({cls.__name__}, from_version={from_version}): from_version must be at least 1 and below the "
            f"current version, {event_type.version}; raise Meta.version first"
        )

    def register(function: UpcasterT) -> UpcasterT:
        registered = event_type.upcasters.setdefault(from_version, function)
        if _source_location(registered) != _source_location(function):
            raise DefinitionError(f"{cls.__name__} has two upcasters from version {from_version}; keep one of them")
        event_type.upcasters[from_version] = function
        registry.revision += 1
        return function

    return register


def _source_location(function: Upcaster) -> object:
    """Return a value that stays equal when the function's module is imported again."""
    plain = inspect.unwrap(function)
    if not isinstance(plain, FunctionType):
        return plain
    code = plain.__code__
    return plain.__module__, plain.__qualname__, code.co_filename, code.co_firstlineno
