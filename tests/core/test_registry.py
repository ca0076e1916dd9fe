from decimal import Decimal
from types import FunctionType
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest

from es_django import Event, PendingEvent, StreamId, upcasts
from es_django.core.registry import registry
from es_django.errors import (
    DefinitionError,
    MissingUpcaster,
    UndecodableEvent,
    UnknownEventType,
    UnsupportedEventVersion,
    UpcastError,
)

STREAM = StreamId("ledger", "l-1")


class Priced(Event):
    amount: Decimal
    currency: str
    rounded: bool

    class Meta:
        name = "tests.priced"
        version = 3
        aliases = ("tests.cost",)


@upcasts(Priced, from_version=1)
def add_currency(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "currency": "EUR"}


@upcasts(Priced, from_version=2)
def add_rounded(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "rounded": bool(data["currency"])}


class Split(Event):
    part: int

    class Meta:
        name = "tests.split"
        version = 2


@upcasts(Split, from_version=1)
def split(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"part": part} for part in data["parts"]]


class Counted(Event):
    counts: dict[int, int]

    class Meta:
        name = "tests.counts"
        version = 2


@upcasts(Counted, from_version=1)
def refuse_nothing(data: dict[str, Any]) -> dict[str, Any]:
    if not data["counts"]:
        raise msgspec.ValidationError("nothing was counted")
    return data


class Even(Event):
    number: int

    class Meta:
        name = "tests.even"

    def __post_init__(self) -> None:
        if self.number % 2:
            raise RuntimeError("odd")


class Unbridged(Event):
    class Meta:
        name = "tests.unbridged"
        version = 2


def decode(type: str, version: int, data: str) -> list[Event]:
    return registry.decode(STREAM, 7, type, version, data)


def moved(function: FunctionType, module: str, lines: int) -> Any:
    code = function.__code__.replace(co_firstlineno=function.__code__.co_firstlineno + lines)
    other = FunctionType(code, {"__name__": module}, function.__name__)
    other.__qualname__ = function.__qualname__
    return other


class TestMeta:
    @pytest.mark.parametrize(
        "options",
        [
            {"name": ""},
            {"name": " "},
            {"name": None},
            {"name": "x" * 256},
            {"aliases": ("",)},
            {"aliases": (7,)},
            {"aliases": "tests.old"},
            {"version": 0},
            {"version": "2"},
            {"version": True},
            {"sensitive": "iban"},
            {"sensitive": {7}},
            {"sensitive": 7},
        ],
    )
    def test_invalid_options_are_rejected(self, options: dict[str, Any]) -> None:
        with pytest.raises(DefinitionError, match=r"Unusable\.Meta"):
            type("Unusable", (Event,), {"Meta": type("Meta", (), options), "__qualname__": "Unusable"})

    def test_the_longest_name_is_accepted(self) -> None:
        meta = type("Meta", (), {"name": "x" * 255})
        assert registry.of(type("Longest", (Event,), {"Meta": meta})).name == "x" * 255

    def test_options_are_inherited_from_the_bases_of_meta(self) -> None:
        class Versioned:
            version = 2
            name = "tests.versioned"

        class Renamed(Event):
            class Meta(Versioned):
                name = "tests.renamed"

        assert (registry.of(Renamed).name, registry.of(Renamed).version) == ("tests.renamed", 2)

    def test_an_unknown_option_is_rejected(self) -> None:
        with pytest.raises(DefinitionError, match="nmae"):

            class Misspelt(Event):
                class Meta:
                    nmae = "x"

    def test_sensitive_fields_are_inherited_and_follow_the_names_of_the_payload(self) -> None:
        class Payee(Event, rename="camel"):
            account_number: str

            class Meta:
                name = "tests.sensitive_payee"
                sensitive = {"account_number", "iban"}

        class Other(Payee):
            class Meta:
                name = "tests.sensitive_other"
                sensitive = {"more"}

        payee = {"account_number", "accountNumber", "iban"}
        assert registry.sensitive_keys("tests.sensitive_payee") == payee
        assert registry.sensitive_keys("tests.sensitive_other") == payee | {"more"}
        assert registry.sensitive_keys("tests.no_such_type") >= payee | {"more"}
        assert registry.sensitive_keys() >= payee | {"more"}

    def test_a_name_that_two_classes_have_is_an_error_when_it_is_used(self) -> None:
        class First(Event):
            class Meta:
                name = "tests.contested"

        class Second(Event):
            class Meta:
                name = "tests.contested"

        try:
            assert list(registry.conflicts()) == ["tests.contested"]
            for use in (lambda: PendingEvent(First()), lambda: decode("tests.contested", 1, "{}")):
                with pytest.raises(DefinitionError, match=r"First.*Second"):
                    use()
        finally:
            registry._by_name.pop("tests.contested")


class TestDecode:
    def test_old_schema_versions_are_upcast_step_by_step(self) -> None:
        expected = [Priced(amount=Decimal("1.50"), currency="EUR", rounded=True)]
        assert decode("tests.priced", 1, '{"amount": "1.50"}') == expected
        assert decode("tests.priced", 2, '{"amount": "1.50", "currency": "EUR"}') == expected
        assert decode("tests.cost", 3, '{"amount": "1.50", "currency": "EUR", "rounded": true}') == expected

    def test_an_upcaster_may_return_several_events_or_none(self) -> None:
        assert decode("tests.split", 1, '{"parts": [1, 2]}') == [Split(part=1), Split(part=2)]
        assert decode("tests.split", 1, '{"parts": []}') == []

    def test_integer_keys_survive_upcasting(self) -> None:
        assert decode("tests.counts", 1, '{"counts": {"1": 2}}') == [Counted(counts={1: 2})]

    @pytest.mark.parametrize(
        ("type", "version", "data", "error"),
        [
            ("tests.nobody", 1, "{}", UnknownEventType),
            ("tests.even", 2, "{}", UnsupportedEventVersion),
            ("tests.unbridged", 1, "{}", MissingUpcaster),
            ("tests.priced", 3, '{"amount": "much"}', UndecodableEvent),
            ("tests.priced", 3, "no json", UndecodableEvent),
            ("tests.priced", 2, "{}", UpcastError),
            ("tests.counts", 1, '{"counts": {}}', UpcastError),
            ("tests.even", 1, '{"number": 1}', UndecodableEvent),
        ],
    )
    def test_an_unreadable_event_raises_the_error_that_names_the_reason(
        self, type: str, version: int, data: str, error: type[Exception]
    ) -> None:
        with pytest.raises(error) as caught:
            decode(type, version, data)
        message = str(caught.value)
        assert all(part in message for part in ("'ledger' 'l-1'", "7", type))


class TestUpcasts:
    def test_an_upcaster_from_the_current_or_an_invalid_version_is_rejected(self) -> None:
        for version in (0, 3, 4):
            with pytest.raises(DefinitionError, match="from_version"):
                upcasts(Priced, from_version=version)

    def test_a_class_that_is_not_an_event_is_rejected(self) -> None:
        with pytest.raises(DefinitionError, match="UUID'> is not a subclass of Event"):
            upcasts(UUID, from_version=1)  # type: ignore[arg-type]  # the mistake

    def test_a_second_upcaster_from_the_same_version_is_rejected(self) -> None:
        with pytest.raises(DefinitionError, match="two upcasters"):
            upcasts(Priced, from_version=1)(add_rounded)

    @pytest.mark.parametrize(("module", "lines"), [("tests.elsewhere", 0), (__name__, 9)])
    def test_a_second_upcaster_with_the_same_name_is_rejected(self, module: str, lines: int) -> None:
        with pytest.raises(DefinitionError, match="two upcasters"):
            upcasts(Split, from_version=1)(moved(cast("FunctionType", split), module, lines))
        assert decode("tests.split", 1, '{"parts": [3]}') == [Split(part=3)]

    def test_importing_a_module_again_replaces_its_upcasters(self) -> None:
        upcasts(Split, from_version=1)(moved(cast("FunctionType", split), __name__, 0))
        upcasts(Split, from_version=1)(split)
        assert decode("tests.split", 1, '{"parts": [3]}') == [Split(part=3)]
