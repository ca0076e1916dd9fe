"""Commands: functions that decide which events an aggregate records. A command with an id takes effect once."""

import json
from collections.abc import Callable
from functools import partial
from inspect import isawaitable, iscoroutine, iscoroutinefunction
from typing import Any, Final, Generic, TypeVar
from uuid import UUID, uuid5

from es_django.core.aggregates import Aggregate
from es_django.core.streams import StreamId

A = TypeVar("A", bound=Aggregate)

_NAMESPACE: Final = UUID("6f0f3f5e-3a5b-5d0c-9a59-1d8ad1f5a3c2")
_ASYNC_DECISION: Final = "decide must be a plain function, not an async function: it may only record events"


class Command(Generic[A]):
    """A function that decides which events to record, and an optional command id.

    Raise `TypeError` if `decide` is async, and `ValueError` if `command_id` is blank.
    """

    def __init__(self, decide: Callable[[A], Any], command_id: str | UUID | None) -> None:
        if iscoroutinefunction(decide):
            raise TypeError(_ASYNC_DECISION)
        if isinstance(command_id, str) and not command_id.strip():
            raise ValueError("command_id must not be blank: all commands with a blank id would count as one command")
        self.id = command_id
        self._decide = decide

    def decide(self, aggregate: A) -> None:
        """Call the function, which records events. Raise `TypeError` if the function returns an awaitable."""
        result = self._decide(aggregate)
        if iscoroutine(result):
            result.close()
        if isawaitable(result):
            raise TypeError(_ASYNC_DECISION)
        if self.id is not None:
            aggregate._assign_event_ids(partial(self.event_id, aggregate.stream))

    def event_id(self, stream: StreamId, number: int = 1) -> UUID:
        """Return the id of the event that the command records as number `number`, counted from 1.

        The id is the same in each execution of the command.
        """
        return uuid5(_NAMESPACE, json.dumps([stream.category, stream.key, str(self.id), number]))
