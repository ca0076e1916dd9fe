"""What is known about the cause of a change: correlation, causation, user, and whatever else a project adds.

It is set once, around a request, a task or a command, and reaches every event and message written within.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

COLUMNS_OF_METADATA = ("correlation_id", "causation_id")
"""The metadata that tables have a column for."""

sources: list[Callable[[], Mapping[str, str]]] = []
"""What adds to the metadata of everything by itself."""

Value = str | Callable[[], str | None]

_current: ContextVar[Mapping[str, Value]] = ContextVar("es_django_metadata", default=MappingProxyType({}))


@contextmanager
def metadata(**values: Value | None) -> Iterator[None]:
    """Adds `values` (`correlation_id`, `causation_id`, `user`, or any other name) to the metadata of everything that
    is written within the block. Inner blocks override outer ones; `None` removes a value. One that costs something to
    find out can be a function, which is called when something is written, and may return None."""
    merged = {**_current.get(), **values}
    token = _current.set(MappingProxyType({name: value for name, value in merged.items() if value is not None}))
    try:
        yield
    finally:
        _current.reset(token)


def current_metadata() -> Mapping[str, str]:
    """The metadata that an event or a message written now would get."""
    current = _current.get()
    if not current and not sources:
        return {}
    known = {name: value() if callable(value) else value for name, value in current.items()}
    found = {name: value for name, value in known.items() if value is not None}
    for source in sources:
        found.update(source())
    return found
