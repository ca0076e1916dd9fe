"""Invalid input raises an error that names the mistake, and nothing is stored."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from es_django import (
    ANY,
    Aggregate,
    Event,
    PendingEvent,
    Repository,
    StreamId,
    StreamWrite,
    event_store,
)
from es_django.core.metadata import metadata
from es_django.core.registry import registry
from es_django.errors import DefinitionError, InvalidStreamId, PayloadError
from es_django.testing import outbox_messages
from tests.domain import Annotated, Ledger, LedgerOpened

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("backend")]

ledgers = Repository(Ledger)

STREAM = StreamId("ledger", "l-1")
OPENED = LedgerOpened(owner="Ada")


@pytest.fixture(autouse=True)
def _nothing_is_stored(backend: str) -> Iterator[None]:
    yield
    assert event_store.read_all().events == []
    assert outbox_messages() == []


NAMES = pytest.mark.parametrize(
    "name",
    ["", " ", "\t\n", "x" * 256, "null\x00", "\ud800", None, 7, b"bytes"],
    ids=["empty", "blank", "white space", "too long", "null character", "surrogate", "None", "number", "bytes"],
)


UNSTORABLE = pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        "null\x00",
        "\ud800",
        {"deep": [{"key\x00": 1}]},
        object(),
        {1: "a key that JSON turns into text"},
        ("a tuple, which JSON turns into a list",),
    ],
    ids=["nan", "infinity", "null character", "surrogate", "deep", "object", "number as key", "tuple"],
)


class TestStream:
    @NAMES
    def test_invalid_keys_are_rejected(self, name: Any) -> None:
        uses: list[Callable[[], object]] = [
            lambda: Ledger.open(name),
            lambda: ledgers.get(name),
            lambda: ledgers.get_many(["l-1", name]),
            lambda: ledgers.exists(name),
            lambda: ledgers.history(name),
            lambda: ledgers.execute(name, lambda ledger: None),
            lambda: ledgers.lock(name).__enter__(),
            lambda: event_store.append(StreamId("ledger", name), [OPENED], expected=ANY),
        ]
        for use in uses:
            with pytest.raises(InvalidStreamId, match="a stream's key") as caught:
                use()
            assert (caught.value.field, caught.value.value, caught.value.retryable) == ("key", name, False)

    @NAMES
    def test_invalid_categories_are_rejected(self, name: Any) -> None:
        with pytest.raises(InvalidStreamId, match="a stream's category") as caught:
            event_store.append(StreamId(name, "l-1"), [OPENED], expected=ANY)
        assert (caught.value.field, caught.value.value) == ("category", name)

    @pytest.mark.parametrize("stream", [("ledger", "l-1"), "l-1", ["ledger", "l-1"], None, Ledger("l-1")], ids=repr)
    def test_values_that_are_not_a_stream_id_are_rejected(self, stream: Any) -> None:
        uses: list[Callable[[], object]] = [
            lambda: event_store.append(stream, [OPENED], expected=ANY),
            lambda: event_store.append(stream, [], expected=ANY),
            lambda: event_store.append_all([StreamWrite(STREAM, [OPENED], 0), StreamWrite(stream, [OPENED], 0)]),
            lambda: event_store.version(stream),
            lambda: event_store.archive(stream),
            lambda: event_store.read_stream(stream),
        ]
        for use in uses:
            with pytest.raises(TypeError, match="the stream must be a StreamId"):
                use()


class TestVersionsAndLimits:
    @pytest.mark.parametrize("expected", [-1, 2**63, True, False, 1.5, 0.0, "0", None], ids=repr)
    def test_invalid_expected_versions_are_rejected(self, expected: Any) -> None:
        with pytest.raises(ValueError, match="`expected` must be ANY, NO_STREAM, STREAM_EXISTS or a version"):
            event_store.append(STREAM, [OPENED], expected=expected)
        writes = [StreamWrite(StreamId("ledger", "fine"), [OPENED], 0), StreamWrite(STREAM, [OPENED], expected)]
        with pytest.raises(ValueError, match="`expected` must be ANY"):
            event_store.append_all(writes)

    @pytest.mark.parametrize("expected", [-1, "x", None, True], ids=repr)
    def test_invalid_expected_versions_are_rejected_even_without_events(self, expected: Any) -> None:
        with pytest.raises(ValueError, match="`expected` must be ANY"):
            event_store.append(STREAM, [], expected=expected)

    @pytest.mark.parametrize("number", [-1, 2**63, True, 1.5, "1"], ids=repr)
    def test_invalid_positions_and_limits_are_rejected(self, number: Any) -> None:
        uses: dict[str, list[Callable[[], object]]] = {
            "after": [
                lambda: event_store.read_stream(STREAM, after=number),
                lambda: event_store.read_stream(STREAM, after=number, backwards=True),
                lambda: event_store.read_all(after=number),
            ],
            "limit": [
                lambda: event_store.read_stream(STREAM, limit=number),
                lambda: event_store.read_all(limit=number),
            ],
        }
        for name, reads in uses.items():
            for read in reads:
                with pytest.raises(ValueError, match=f"{name} must be an integer of at least 0, got"):
                    read()

    @pytest.mark.parametrize("version", [-1, 2**63, True, False, 1.5, float("nan"), "3"], ids=repr)
    def test_invalid_versions_to_load_are_rejected(self, version: Any) -> None:
        with pytest.raises(ValueError, match="version must be an integer of at least 0, got"):
            ledgers.get("l-1", version=version)


class TestPayload:
    @UNSTORABLE
    def test_payloads_that_cannot_be_stored_are_rejected(self, value: Any) -> None:
        ledger = Ledger("l-1")
        with pytest.raises(PayloadError, match=r"tests\.annotated\.note"):
            ledger.annotate(value)
        ledgers.save(ledger)
        for expected in (0, ANY):
            with pytest.raises(PayloadError, match=r"tests\.annotated\.note"):
                event_store.append(STREAM, [OPENED, Annotated(note=value)], expected=expected)

    @pytest.mark.parametrize("name", ["correlation_id", "causation_id", "user"])
    @pytest.mark.parametrize(
        "value", ["null\x00", "\ud800", float("nan"), object()], ids=["null", "surrogate", "nan", "object"]
    )
    def test_metadata_that_cannot_be_stored_is_rejected(self, name: str, value: Any) -> None:
        with pytest.raises(PayloadError, match="metadata"), metadata(**{name: value}):
            ledgers.save(Ledger.open("l-1"))
        with pytest.raises(PayloadError, match="metadata"):
            event_store.append(STREAM, [OPENED], expected=0, metadata={name: value})

    def test_a_signalling_nan_is_rejected(self) -> None:
        ledger = Ledger("l-1")
        with pytest.raises(PayloadError, match=r"tests\.deposited.*signalling NaN"):
            ledger.deposit("sNaN")
        ledgers.save(ledger)


class TestTypes:
    def test_values_that_are_not_events_are_rejected(self) -> None:
        for impostor in ("deposited", {"owner": "Ada"}, object(), None, LedgerOpened, Event()):
            for event in (lambda impostor=impostor: impostor, lambda impostor=impostor: PendingEvent(impostor)):
                with pytest.raises(TypeError, match="is not an instance of an Event subclass"):
                    event_store.append(STREAM, [OPENED, event()], expected=0)

    def test_events_whose_name_belongs_to_another_class_are_rejected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(registry, "_by_name", {name: dict(claims) for name, claims in registry._by_name.items()})
        for name in ("One", "Two"):
            meta = type("Meta", (), {"name": "tests.claimed"})
            contested = type(name, (Event,), {"Meta": meta, "__qualname__": name})
        with pytest.raises(DefinitionError, match=r"are both stored as 'tests\.claimed'"):
            event_store.append(STREAM, [OPENED, contested()], expected=0)

    def test_aggregates_of_another_class_are_rejected(self) -> None:
        class Impostor(Aggregate):
            pass

        for save in (ledgers.save, lambda impostor: ledgers.save_all([Ledger.open("l-1"), impostor])):
            with pytest.raises(TypeError, match="is not of class Ledger: save it with a repository of its class"):
                save(Impostor("l-1"))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("name", "use", "one"),
        [
            ("events", lambda one: event_store.append(STREAM, one, expected=0), OPENED),
            ("events", lambda one: event_store.append(STREAM, one, expected=0), PendingEvent(OPENED)),
            ("aggregates", ledgers.save_all, Ledger.open("l-1")),
            ("types", lambda one: event_store.read_all(types=one), LedgerOpened),
        ],
        ids=["an event", "a pending event", "an aggregate", "an event class"],
    )
    def test_a_single_value_in_place_of_a_list_is_rejected(
        self, name: str, use: Callable[[Any], object], one: Any
    ) -> None:
        with pytest.raises(TypeError, match=f"{name} must be a list, got a single {type(one).__name__}"):
            use(one)

    @pytest.mark.parametrize("aggregate", ["Ledger", Ledger("l-1"), LedgerOpened, None], ids=repr)
    def test_a_repository_of_a_class_that_is_not_an_aggregate_is_rejected(self, aggregate: Any) -> None:
        with pytest.raises(TypeError, match="a Repository needs a subclass of Aggregate, got"):
            Repository(aggregate)
