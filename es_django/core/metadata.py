"""Metadata: the correlation id, causation id, user and other facts about the cause of a change.

Set metadata once around a request, task or command. Every event and message that is written inside carries it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

METADATA_COLUMNS = ("correlation_id", "causation_id")
"""The names of the metadata that is stored in its own table columns."""

sources: list[Callable[[], Mapping[str, str]]] = []
"""Functions whose results are added to all metadata."""

Value = str | Callable[[], str | None]

_current: ContextVar[Mapping[str, Value]] = ContextVar("es_django_metadata", default=MappingProxyType({}))


@contextmanager
def metadata(**values: Value | None) -> Iterator[None]:
    """Add `values` to the metadata of every event and message that is written inside the block.

    The names are `correlation_id`, `causation_id`, `user` or any other. Inner blocks override outer ones, and `None`
    removes a value. For a value that is expensive to compute, pass a function. Each write calls the function, which may
    return None.
    """
    merged = {**_current.get(), **values}
    token = _current.set(MappingProxyType({name: value for name, value in merged.items() if value is not None}))
    try:
        yield
    finally:
        _current.reset(token)


class SteppedMetadata:
    """Metadata of work that runs in steps between which other code runs, such as a generator.

    Enter it for each step. A step goes on with the metadata with which the step before ended.
    """

    def __init__(self, **values: Value | None) -> None:
        with metadata(**values):
            self._kept = _current.get()

    @contextmanager
    def step(self) -> Iterator[None]:
        token = _current.set(self._kept)
        try:
            yield
        finally:
            self._kept = _current.get()
            _current.reset(token)


def current_metadata() -> Mapping[str, str]:
    """Return the metadata for events and messages that are written now."""
    current = _current.get()
    if not current and not sources:
        return {}
    known = {name: value() if callable(value) else value for name, value in current.items()}
    found = {name: value for name, value in known.items() if value is not None and not _is_blank_id(name, value)}
    for source in sources:
        found.update(source())
    return found


def _is_blank_id(name: str, value: object) -> bool:
    """Return whether another system or a request sent a blank id, which counts as no id."""
    return name in METADATA_COLUMNS and isinstance(value, str) and not value.strip()
