"""Events of older schema versions are read as events of the current version. An unreadable event is an error."""

from typing import Any

import pytest

from es_django import Aggregate, Event, Repository, StreamId, applies, event_store, upcasts
from es_django.errors import (
    MissingUpcaster,
    ReplayError,
    UnappliedEvent,
    UndecodableEvent,
    UnknownEventType,
    UnsupportedEventVersion,
    UpcastError,
)
from tests.conformance.tampering import add_events, snapshot_version

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("backend")]


class ItemsAdded(Event):
    """Version 1 has all names in one string, and version 2 has a list of names. In version 3 each name is one event."""

    item: str

    class Meta:
        name = "tests.items_added"
        version = 3
        aliases = ("tests.things_added",)


@upcasts(ItemsAdded, from_version=1)
def split_names(data: dict[str, Any]) -> dict[str, Any]:
    return {"items": data["names"].split()}


@upcasts(ItemsAdded, from_version=2)
def one_event_each(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"item": item} for item in data["items"]]


class Unfinished(Event):
    class Meta:
        name = "tests.unfinished"
        version = 3


class Basket(Aggregate):
    items: list[str] = []

    class Meta:
        snapshot_every = 2

    @applies
    def _added(self, event: ItemsAdded) -> None:
        self.items.append(event.item)

    @applies
    def _unfinished(self, event: Unfinished) -> None: ...


baskets = Repository(Basket)

STREAM = StreamId("basket", "b-1")


def store(*events: tuple[str, int, dict[str, Any]]) -> None:
    add_events(STREAM, *events)


def save_with_a_snapshot() -> None:
    basket = Basket("b-1")
    for item in "ab":
        basket.record(ItemsAdded(item=item))
    baskets.save(basket)
    assert snapshot_version(STREAM) == 2


UNREADABLE = pytest.mark.parametrize(
    ("event", "error", "reason"),
    [
        (("tests.unknown", 1, {}), UnknownEventType, "no event class is named 'tests.unknown'"),
        (("tests.items_added", 4, {}), UnsupportedEventVersion, "newer"),
        (("tests.unfinished", 1, {}), MissingUpcaster, "from_version=1"),
        (("tests.items_added", 1, {}), UpcastError, "KeyError"),
        (("tests.items_added", 3, {"item": 7}), UndecodableEvent, "item"),
    ],
    ids=["unknown", "newer", "without a step", "failing step", "undecodable"],
)


class TestUpcasting:
    def test_events_of_all_schema_versions_are_read_together(self) -> None:
        store(
            ("tests.items_added", 1, {"names": "a b"}),
            ("tests.items_added", 2, {"items": ["c"]}),
            ("tests.items_added", 3, {"item": "d"}),
        )
        basket = baskets.get("b-1")
        assert (basket.items, basket.version) == (["a", "b", "c", "d"], 3)
        assert [recorded.version for recorded in event_store.read_stream(STREAM)] == [1, 1, 2, 3]
        assert [recorded.schema_version for recorded in baskets.history("b-1")] == [1, 1, 2, 3]

    def test_events_with_a_former_name_are_found_by_their_class(self) -> None:
        names = ["tests.things_added", "tests.items_added"]
        store(*((name, 3, {"item": name}) for name in names), ("tests.unfinished", 3, {}))
        page = event_store.read_all(types=[ItemsAdded])
        assert [(each.type, each.event) for each in page.events] == [(name, ItemsAdded(item=name)) for name in names]

    @pytest.mark.parametrize("nothing", [{"items": []}])
    def test_an_event_that_is_upcast_to_nothing_still_counts_in_the_version(self, nothing: dict[str, Any]) -> None:
        store(("tests.items_added", 3, {"item": "a"}), ("tests.items_added", 2, nothing))
        basket = baskets.get("b-1")
        assert (basket.items, basket.version) == (["a"], 2)
        basket.record(ItemsAdded(item="b"))
        baskets.save(basket)
        assert baskets.get("b-1").version == event_store.version(STREAM) == 3
        page = event_store.read_all()
        assert [recorded.version for recorded in page.events] == [1, 3]
        assert event_store.read_all(after=page.position).events == []

    def test_fault_a11_backwards_is_the_reverse_and_the_limit_counts_events(self) -> None:
        store(
            ("tests.items_added", 1, {"names": "a b c"}),
            ("tests.items_added", 2, {"items": []}),
            ("tests.items_added", 3, {"item": "d"}),
            ("tests.items_added", 2, {"items": ["e", "f"]}),
        )
        for after in range(5):
            forwards = list(event_store.read_stream(STREAM, after=after))
            backwards = list(event_store.read_stream(STREAM, after=after, backwards=True))
            assert backwards == forwards[::-1]
            for limit in range(8):
                assert list(event_store.read_stream(STREAM, after=after, limit=limit)) == forwards[:limit]
                found = event_store.read_stream(STREAM, after=after, limit=limit, backwards=True)
                assert list(found) == backwards[:limit]

    def test_events_after_a_snapshot_are_upcast(self) -> None:
        save_with_a_snapshot()
        store(("tests.items_added", 1, {"names": "c d"}))
        assert baskets.get("b-1").items == ["a", "b", "c", "d"]


class TestUnreadableEvents:
    @UNREADABLE
    def test_an_unreadable_event_after_a_snapshot_is_an_error(
        self, event: tuple[str, int, dict[str, Any]], error: type[ReplayError], reason: str
    ) -> None:
        save_with_a_snapshot()
        store(event)
        for read in (lambda: baskets.get("b-1"), lambda: baskets.get_many(["b-1"])):
            with pytest.raises(error, match=reason) as caught:
                read()
            assert (caught.value.stream, caught.value.version, caught.value.type) == (STREAM, 3, event[0])

    @UNREADABLE
    def test_an_unreadable_event_is_an_error_in_every_way_of_reading(
        self, event: tuple[str, int, dict[str, Any]], error: type[ReplayError], reason: str
    ) -> None:
        store(("tests.items_added", 3, {"item": "a"}), event)
        for read in (
            lambda: baskets.get("b-1"),
            lambda: baskets.get_many(["b-1"]),
            lambda: list(event_store.read_stream(STREAM)),
            lambda: event_store.read_all(after=event_store.read_all().position),
        ):
            with pytest.raises(error) as caught:
                read()
            assert (caught.value.stream, caught.value.version, caught.value.type) == (STREAM, 2, event[0])
            assert not caught.value.retryable
            assert reason in str(caught.value)

    def test_events_before_an_unreadable_event_are_read(self) -> None:
        store(
            ("tests.items_added", 3, {"item": "a"}), ("tests.unknown", 1, {}), ("tests.items_added", 3, {"item": "b"})
        )
        page = event_store.read_all()
        assert [recorded.version for recorded in page.events] == [1]
        with pytest.raises(ReplayError) as caught:
            event_store.read_all(after=page.position)
        assert caught.value.position == page.position + 1

    def test_a_stored_field_that_the_class_no_longer_has_is_an_error(self) -> None:
        store(("tests.items_added", 3, {"item": "a", "colour": "red"}))
        with pytest.raises(UndecodableEvent, match="colour"):
            baskets.get("b-1")

    def test_an_event_that_the_aggregate_does_not_apply_is_an_error(self) -> None:
        class Shelf(Aggregate):
            pass

        event_store.append(StreamId("shelf", "s-1"), [ItemsAdded(item="a")], expected=0)
        with pytest.raises(UnappliedEvent, match="Shelf has no @applies method for ItemsAdded"):
            Repository(Shelf).get("s-1")
