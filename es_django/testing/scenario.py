"""Test an aggregate: given some events, when a command runs, then expect events or an error."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Generic, Self, TypeVar

from es_django.core.aggregates import Aggregate
from es_django.core.equality import changed
from es_django.core.events import Event, PendingEvent

A = TypeVar("A", bound=Aggregate)


class Scenario(Generic[A]):
    """A test of an aggregate. Create one with `given`."""

    def __init__(self, aggregate: A, events: Sequence[Event] = ()) -> None:
        self.aggregate = aggregate
        self._given = events
        self._error: Exception | None = None
        self._recorded_before_error: list[Event] = []

    def when(self, command: Callable[[A], Any]) -> Self:
        """Call the command with the aggregate, and keep its error for `then_raises`.

        Raise `TypeError` if the command is an async function.
        """
        self._expect_no_error()
        if inspect.iscoroutinefunction(command):
            raise TypeError(f"{command!r} must be a plain function, not an async function")
        before = len(self.aggregate.pending_events)
        try:
            command(self.aggregate)
        except Exception as error:
            self._error = error
            self._recorded_before_error = self.aggregate.pending_events[before:]
        return self

    def then(self, *events: Event) -> Self:
        """Assert that the commands recorded exactly these events, and changed the state only through them."""
        self._expect_no_error()
        recorded = self.aggregate.pending_events
        assert recorded == list(events), f"recorded {recorded}, expected {list(events)}"  # noqa: S101
        replayed = _replayed(type(self.aggregate), self.aggregate.key, [*self._given, *recorded])
        fields = ", ".join(sorted(changed(replayed._state(), self.aggregate._state())))
        assert not fields, f"changed without an event, so a replay would lose it: {fields}"  # noqa: S101
        return self

    def then_raises(self, kind: type[Exception], message: str = "") -> Self:
        """Assert that the last command raised this kind of error, with `message` in its text, and recorded no event."""
        error, self._error = self._error, None
        if error is None:
            raise AssertionError(f"no error was raised, expected {kind.__name__}")
        if not isinstance(error, kind):
            raise error
        assert message in str(error), f"the error says {str(error)!r}, expected {message!r}"  # noqa: S101
        recorded = self._recorded_before_error
        assert not recorded, f"recorded {recorded} before the error, expected no event"  # noqa: S101
        return self

    def _expect_no_error(self) -> None:
        if self._error is not None:
            raise self._error


def given(aggregate: type[A], *events: Event, key: str = "key") -> Scenario[A]:
    """Start a test with an aggregate that has applied these events.

    `given(Account, AccountOpened(owner="Ada")).when(lambda a: a.deposit(5)).then(MoneyDeposited(amount=5))`, or
    `.then_raises(ValueError, "more than")`. Raise `TypeError` unless each argument is an event.
    """
    for event in events:
        if not isinstance(event, Event):
            raise TypeError(f"given({aggregate.__name__}, ...) takes events one by one, not {event!r}")
    return Scenario(_replayed(aggregate, key, events), events)


def _replayed(aggregate: type[A], key: str, events: Sequence[Event]) -> A:
    instance = aggregate(key)
    # `PendingEvent` copies each event, as a store does, so that the state does not share a list with an event.
    instance._replay((version, [PendingEvent(event).event]) for version, event in enumerate(events, start=1))
    return instance
