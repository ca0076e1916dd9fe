"""Each consumer of an event gets an event of its own, or one that cannot be changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import pytest

from es_django import NO_STREAM, Event, PendingEvent, RecordedEvent, StreamId, event_store
from es_django.core.mutability import is_mutable
from es_django.messages.message import Message
from es_django.store.hooks import MessageSource

STREAM = StreamId("cart", "c-1")


class Filled(Event):
    items: list[str]

    class Meta:
        name = "tests.own.filled"


class Spoiling:
    """A consumer that notes what it gets, and changes all of it."""

    event_classes = frozenset({Filled})

    def __init__(self, name: str, seen: list[Any]) -> None:
        self.name, self._seen = name, seen

    def project_batch(self, events: Sequence[RecordedEvent[Any]]) -> None:
        for recorded in events:
            self._take(recorded)

    def publish(self, staged: Any) -> Message | None:
        self._take(staged)
        return None

    def _take(self, staged: Any) -> None:
        self._seen.append((list(staged.event.items), dict(staged.metadata)))
        staged.event.items.append(self.name)
        staged.metadata["spoiled"] = self.name


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("backend")
class TestConsumers:
    def test_fault_a9_no_consumer_sees_the_change_of_another(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Any] = []
        one, two = Spoiling("one", seen), Spoiling("two", seen)
        sources: dict[type[Event], list[MessageSource]] = {Filled: [one.publish, two.publish]}
        monkeypatch.setattr("es_django.store.writes.message_sources", sources)
        monkeypatch.setattr("es_django.store.hooks.inline_projections", [one, two])
        (returned,) = event_store.append(STREAM, [Filled(items=["a"])], expected=NO_STREAM, metadata={"user": "u"})
        (stored,) = event_store.read_stream(STREAM)
        assert seen == [(["a"], {"user": "u"})] * 4
        assert returned == stored
        assert returned.event == Filled(items=["a"])

    def test_fault_a9_a_change_of_a_read_event_does_not_reach_the_store(self) -> None:
        (returned,) = event_store.append(STREAM, [Filled(items=["a"])], expected=NO_STREAM, metadata={"user": "u"})
        read = [returned, *event_store.read_stream(STREAM), *event_store.read_all().events]
        for recorded in read:
            assert isinstance(recorded.event, Filled)
            recorded.event.items.append("b")
            dict.update(recorded.metadata, spoiled="yes")
        (again,) = event_store.read_stream(STREAM)
        assert again.event == Filled(items=["a"])
        assert again.metadata == {"user": "u"}

    def test_fault_a9_a_change_of_a_pending_event_is_not_returned_as_stored(self) -> None:
        pending = PendingEvent(Filled(items=["a"]))
        assert isinstance(pending.event, Filled)
        pending.event.items.append("b")
        (returned,) = event_store.append(STREAM, [pending], expected=NO_STREAM)
        assert returned.event == Filled(items=["a"])


class Open(msgspec.Struct):
    number: int


class Closed(msgspec.Struct, frozen=True):
    number: int
    others: "tuple[Closed, ...]" = ()


class Half(msgspec.Struct, frozen=True):
    numbers: list[int]


@dataclass
class Loose:
    number: int


@dataclass(frozen=True)
class Fixed:
    number: int


class Pair(NamedTuple):
    one: int
    two: Closed


class TestMutability:
    @pytest.mark.parametrize("type", [list[int], dict[str, int], set[int], Open, Half, Loose, Any, tuple[Open, int]])
    def test_fault_a9_types_with_a_part_that_can_be_changed_are_copied(self, type: Any) -> None:
        assert is_mutable(type)

    @pytest.mark.parametrize("type", [int, str | None, Closed, Fixed, Pair, tuple[int, ...], frozenset[Closed]])
    def test_fault_a9_other_types_are_shared(self, type: Any) -> None:
        assert not is_mutable(type)
