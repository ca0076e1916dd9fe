"""Report work to metrics and traces: appends, published messages, projected batches and handled messages.

The reporting code does not import metrics or traces. They register here as listeners if their libraries are installed.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from enum import Enum
from types import TracebackType
from typing import Self

import msgspec


class Kind(Enum):
    """A kind of work: its name, the label of its subject in metrics, and the name of its items."""

    APPEND = "append", "category", "events"
    PUBLISH = "publish", "destination", "messages"
    PROJECT = "project", "projection", "events"
    HANDLE = "handle", "consumer", "messages"

    label: str
    items: str

    def __new__(cls, word: str, label: str, items: str) -> "Kind":
        kind = object.__new__(cls)
        kind._value_ = word
        kind.label = label
        kind.items = items
        return kind


class Work(msgspec.Struct):
    """A context manager that reports one piece of work to all listeners.

    `size` is the number of items. Each entry of `causes` is the metadata of an event or the headers of a message.

    The block may set `subject` and `outcomes`, the number of items by outcome. By default all items count as "done". If
    the block raises, they count as the `outcome` of the error, or as "failed".
    """

    kind: Kind
    subject: str = ""
    size: int = 0
    causes: Iterable[Mapping[str, str]] = ()
    outcomes: dict[str, int] = {}
    error: BaseException | None = None
    _entered: ExitStack | None = None

    def __enter__(self) -> Self:
        if listeners:
            with ExitStack() as stack:
                for listener in listeners:
                    stack.enter_context(listener(self))
                self._entered = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entered is None:
            return
        if error is not None:
            self.error = error
            self.outcomes = {getattr(error, "outcome", "failed"): self.size}
        elif not self.outcomes:
            self.outcomes = {"done": self.size}
        self._entered.__exit__(kind, error, trace)


Listener = Callable[[Work], AbstractContextManager[None]]

listeners: list[Listener] = []
"""Each listener returns a context manager. It is entered before the work begins, and exited when the outcomes and the
error are known."""
