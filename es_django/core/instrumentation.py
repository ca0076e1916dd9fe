"""What is worth watching while it happens: each append, publishing, batch of a projection and handling of a message.

Whoever does one of these tells it here, and knows of no metrics and no traces; these listen where they are installed.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from enum import Enum
from types import TracebackType
from typing import Self

import msgspec


class Kind(Enum):
    """What is done, by what it is told apart, and what it is done to."""

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
    """Something that is being done within its block: to how many items, and what caused them; in the end, what came of
    them. Each of the `causes` is the metadata of an event or the headers of a message.

    It tells the listeners, if there are any; the block may still say what it is about. If it does not tell the
    outcomes, all is "done", or "failed" if it raises.
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
        if not self.outcomes:
            self.outcomes = {"done" if error is None else "failed": self.size}
        self._entered.__exit__(kind, error, trace)


Listener = Callable[[Work], AbstractContextManager[None]]

listeners: list[Listener] = []
"""Each is entered before the work begins, and left when its outcomes and its error are known."""
