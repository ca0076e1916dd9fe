"""Given these events, when that happens, then these events follow, or an error."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Generic, Self, TypeVar

from es_django.core.aggregates import Aggregate
from es_django.core.equality import changed
from es_django.core.events import Event, PendingEvent

A = TypeVar("A", bound=Aggregate)


class Scenario(Generic[A]):
    """What an aggregate does; made by `given`."""

    def __init__(self, aggregate: A, events: Sequence[Event] = ()) -> None:
        self.aggregate = aggregate
        self._given = events
        self._error: Exception | None = None
        self._recorded_before_error: list[Event] = []

    def when(self, command: Callable[[A], Any]) -> Self:
        """Gives the command to the aggregate; what it raises waits for `then_raises`.

        Raises `TypeError` if the command is an async function.
        """
        self._expect_no_error()
        if inspect.iscoroutinefunction(command):
            raise TypeError(f"{command!r} must be a plain function, not an async one")
        before = len(self.aggregate.pending_events)
        try:
            command(self.aggregate)
        except Exception as error:
            self._error = error
            self._recorded_before_error = self.aggregate.pending_events[before:]
        return self

    def then(self, *events: Event) -> Self:
        """Fails unless the commands recorded exactly these events, and changed the aggregate by these alone."""
        self._expect_no_error()
        recorded = self.aggregate.pending_events
        assert recorded == list(events), f"recorded were {recorded}, expected were {list(events)}"  # noqa: S101
        anew = _folded(type(self.aggregate), self.aggregate.key, [*self._given, *recorded])
        others = ", ".join(sorted(changed(anew._state(), self.aggregate._state())))
        assert not others, f"changed without an event, so not as a replay would: {others}"  # noqa: S101
        return self

    def then_raises(self, kind: type[Exception], message: str = "") -> Self:
        """Fails unless the last command raised an error of this kind, with `message` in its text, and recorded
        nothing."""
        error, self._error = self._error, None
        if error is None:
            raise AssertionError(f"no error was raised, expected was {kind.__name__}")
        if not isinstance(error, kind):
            raise error
        assert message in str(error), f"the error says {str(error)!r}, expected was {message!r}"  # noqa: S101
        recorded = self._recorded_before_error
        assert not recorded, f"recorded before the error were {recorded}, expected was nothing"  # noqa: S101
        return self

    def _expect_no_error(self) -> None:
        if self._error is not None:
            raise self._error


def given(aggregate: type[A], *events: Event, key: str = "key") -> Scenario[A]:
    """An aggregate to which these events have happened.

    `given(Account, AccountOpened(owner="Ada")).when(lambda a: a.deposit(5)).then(MoneyDeposited(amount=5))`, or
    `.then_raises(ValueError, "more than")`. Raises `TypeError` for what is no event.
    """
    for event in events:
        if not isinstance(event, Event):
            raise TypeError(f"given({aggregate.__name__}, ...) takes events one by one, not {event!r}")
    return Scenario(_folded(aggregate, key, events), events)


def _folded(aggregate: type[A], key: str, events: Sequence[Event]) -> A:
    instance = aggregate(key)
    # Copies, as the stored ones would be: no list of an event is the state's too.
    instance._replay((version, [PendingEvent(event).event]) for version, event in enumerate(events, start=1))
    return instance
