import copy
from datetime import UTC, datetime
from decimal import Decimal
from types import FunctionType
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest

from es_django import Event, PendingEvent, StreamId, upcasts
from es_django.core.registry import registry
from es_django.core.serialization import jsonb_form
from es_django.errors import (
    DefinitionError,
    MissingUpcaster,
    PayloadError,
    UndecodableEvent,
    UnknownEventType,
    UnsupportedEventVersion,
    UpcastError,
)

STREAM = StreamId("ledger", "l-1")


class Measured(Event):
    value: Any = None
    at: datetime | None = None

    class Meta:
        name = "tests.measured"


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


def test_an_event_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Measured(value=1).value = 2  # type: ignore[misc]


def test_an_event_takes_keywords_only() -> None:
    with pytest.raises(TypeError):
        Measured(1)  # type: ignore[call-arg]


def test_a_payload_comes_back_as_it_was() -> None:
    event = Measured(value={"a": [1, 2.5, None, "é\n\\u0000"]}, at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC))
    assert decode("tests.measured", 1, PendingEvent(event).data) == [event]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (float("nan"), "value"),
        ({"deep": [1, float("inf")]}, "value['deep'][1]"),
        ("null\x00character", "value"),
        ({"key\x00": 1}, "value['key\\x00']"),
        ("lone \ud800 surrogate", "value"),
        ([object()], "value[0]"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_the_field_named(value: object, field: str) -> None:
    with pytest.raises(PayloadError) as caught:
        PendingEvent(Measured(value=value))
    assert (caught.value.owner, caught.value.field) == ("tests.measured", field)
    assert not caught.value.retryable


def test_every_pending_event_has_an_id_of_its_own() -> None:
    first, second = PendingEvent(Measured()), PendingEvent(Measured())
    assert first.event_id != second.event_id
    assert first.event_id.version == 7


def test_old_schema_versions_are_upcast_step_by_step() -> None:
    expected = [Priced(amount=Decimal("1.50"), currency="EUR", rounded=True)]
    assert decode("tests.priced", 1, '{"amount": "1.50"}') == expected
    assert decode("tests.priced", 2, '{"amount": "1.50", "currency": "EUR"}') == expected
    assert decode("tests.cost", 3, '{"amount": "1.50", "currency": "EUR", "rounded": true}') == expected


def test_an_upcaster_may_make_several_events_or_none() -> None:
    assert decode("tests.split", 1, '{"parts": [1, 2]}') == [Split(part=1), Split(part=2)]
    assert decode("tests.split", 1, '{"parts": []}') == []


def test_numbers_as_keys_survive_upcasting() -> None:
    assert decode("tests.counts", 1, '{"counts": {"1": 2}}') == [Counted(counts={1: 2})]


@pytest.mark.parametrize(
    ("type", "version", "data", "error"),
    [
        ("tests.nobody", 1, "{}", UnknownEventType),
        ("tests.measured", 2, "{}", UnsupportedEventVersion),
        ("tests.unbridged", 1, "{}", MissingUpcaster),
        ("tests.priced", 3, '{"amount": "much"}', UndecodableEvent),
        ("tests.priced", 3, "no json", UndecodableEvent),
        ("tests.priced", 2, "{}", UpcastError),
        ("tests.counts", 1, '{"counts": {}}', UpcastError),
        ("tests.even", 1, '{"number": 1}', UndecodableEvent),
    ],
)
def test_nothing_is_misread(type: str, version: int, data: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        decode(type, version, data)
    message = str(caught.value)
    assert all(part in message for part in ("'ledger' 'l-1'", "7", type))


def test_two_classes_of_one_name_are_refused_when_used() -> None:
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


def test_a_step_from_a_version_that_has_no_next_one_is_refused() -> None:
    for version in (0, 3, 4):
        with pytest.raises(DefinitionError, match="from_version"):
            upcasts(Priced, from_version=version)


def test_a_step_for_what_is_no_event_is_refused() -> None:
    with pytest.raises(DefinitionError, match="UUID'> is not a subclass of Event"):
        upcasts(UUID, from_version=1)  # type: ignore[arg-type]  # the mistake


def test_a_second_step_from_the_same_version_is_refused() -> None:
    with pytest.raises(DefinitionError, match="two upcasters"):
        upcasts(Priced, from_version=1)(add_rounded)


def moved(function: FunctionType, module: str, lines: int) -> Any:
    code = function.__code__.replace(co_firstlineno=function.__code__.co_firstlineno + lines)
    other = FunctionType(code, {"__name__": module}, function.__name__)
    other.__qualname__ = function.__qualname__
    return other


@pytest.mark.parametrize(("module", "lines"), [("tests.elsewhere", 0), (__name__, 9)])
def test_a_second_step_of_the_same_name_is_refused(module: str, lines: int) -> None:
    with pytest.raises(DefinitionError, match="two upcasters"):
        upcasts(Split, from_version=1)(moved(cast("FunctionType", split), module, lines))
    assert decode("tests.split", 1, '{"parts": [3]}') == [Split(part=3)]


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
        {"sensitive": "iban"},
        {"sensitive": {7}},
        {"sensitive": 7},
    ],
)
def test_an_unusable_name_version_or_set_of_sensitive_fields_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=r"Unusable\.Meta"):
        type("Unusable", (Event,), {"Meta": type("Meta", (), options), "__qualname__": "Unusable"})


def test_the_longest_name_is_fine() -> None:
    meta = type("Meta", (), {"name": "x" * 255})
    assert registry.of(type("Longest", (Event,), {"Meta": meta})).name == "x" * 255


def test_an_event_is_not_copied() -> None:
    event = Measured(value=[1])
    assert copy.deepcopy([event])[0] is event


def test_an_upcaster_whose_module_is_imported_again_replaces_itself() -> None:
    upcasts(Split, from_version=1)(moved(cast("FunctionType", split), __name__, 0))
    upcasts(Split, from_version=1)(split)
    assert decode("tests.split", 1, '{"parts": [3]}') == [Split(part=3)]


def test_a_meta_has_the_options_of_its_bases() -> None:
    class Versioned:
        version = 2
        name = "tests.versioned"

    class Renamed(Event):
        class Meta(Versioned):
            name = "tests.renamed"

    assert (registry.of(Renamed).name, registry.of(Renamed).version) == ("tests.renamed", 2)


def test_a_misspelt_meta_option_is_refused() -> None:
    with pytest.raises(DefinitionError, match="nmae"):

        class Misspelt(Event):
            class Meta:
                nmae = "x"


def test_an_event_of_the_base_class_is_refused() -> None:
    with pytest.raises(TypeError, match="is not an Event"):
        PendingEvent(Event())


def test_the_fields_that_would_come_back_as_others_are_named_and_no_more() -> None:
    class Paired(Event):
        kept: int
        changed: Any

    with pytest.raises(PayloadError, match=r"Paired\.changed: would be read back as a different value"):
        PendingEvent(Paired(kept=1, changed={1: "a key that JSON turns into text"}))


def test_an_event_id_can_be_given() -> None:
    given = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
    assert PendingEvent(Measured(), given).event_id == given


def test_sensitive_fields_are_known_by_their_names_in_payloads_and_inherited() -> None:
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


@pytest.mark.parametrize(
    ("encoded", "stored"),
    [
        ('{"b":1,"a":2}', '{"b":1,"a":2}'),
        ('{"b":{"bb":1,"a":2}}', '{"b":{"a":2,"bb":1}}'),
        ('[{"bb":1,"a":2}]', '[{"a":2,"bb":1}]'),
    ],
    ids=["the fields of a payload", "an object within it", "an object in a list"],
)
def test_the_keys_of_an_inner_object_come_in_the_order_of_jsonb(encoded: str, stored: str) -> None:
    assert jsonb_form(encoded) == stored
