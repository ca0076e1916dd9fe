"""Every name and key follows one rule, and a stream is identified by category and key."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from es_django import ANY, Event, Projection, StreamId, event_store, handles, outbox
from es_django.conf import settings as es_django_settings
from es_django.core.streams import NAME_RULE
from es_django.errors import DefinitionError, InvalidStreamId, PayloadError
from es_django.inbox.receipts import handle_once
from es_django.leases import lease_lock
from es_django.messages.message import Message
from tests.domain import LedgerOpened


def _define(base: type, **options: object) -> None:
    type("Unusable", (base,), {"Meta": type("Meta", (), options), "__qualname__": "Unusable"})


def _append(**metadata: Any) -> None:
    event_store.append(StreamId("ledger", "l-1"), [LedgerOpened(owner="Ada")], expected=ANY, metadata=metadata)


def _handle(consumer: str, message_id: Any) -> None:
    handle_once(consumer, Message(type="tests.noted", data={}, message_id=message_id), lambda message: None)


def _lease(name: str) -> None:
    with lease_lock(name):
        pass


USES: dict[str, tuple[Callable[[Any], object], type[Exception], str]] = {
    "category": (lambda name: StreamId(name, "l-1"), InvalidStreamId, "a stream's category"),
    "stream key": (lambda name: StreamId("ledger", name), InvalidStreamId, "a stream's key"),
    "event name": (lambda name: _define(Event, name=name), DefinitionError, "Unusable.Meta: a name or alias"),
    "event alias": (lambda name: _define(Event, aliases=(name,)), DefinitionError, "Unusable.Meta: a name or alias"),
    "projection": (lambda name: _define(Projection, name=name), DefinitionError, "Unusable.Meta.name"),
    "correlation id": (lambda name: _append(correlation_id=name), PayloadError, "metadata.correlation_id:"),
    "causation id": (lambda name: _append(causation_id=name), PayloadError, "metadata.causation_id:"),
    "message type": (lambda name: outbox.send("tests", type=name, data={}), ValueError, "a message's type"),
    "message key": (lambda name: outbox.send("tests", type="t", data={}, key=name), ValueError, "a message's key"),
    "header": (lambda name: outbox.send("tests", type="t", data={}, headers={name: "x"}), PayloadError, "t.headers:"),
    "handled type": (lambda name: handles(name, consumer="mailer"), DefinitionError, "@handles: the message type"),
    "consumer": (lambda name: handles("tests.noted", consumer=name), DefinitionError, "@handles: the consumer"),
    "receipt consumer": (lambda name: _handle(name, "1"), ValueError, "the consumer"),
    "lease": (_lease, ValueError, "a lease's name"),
    "operator": (lambda name: outbox.discard([], by=name), ValueError, "by, the name of the operator,"),
}


@pytest.mark.django_db
@pytest.mark.usefixtures("recorder")
class TestNames:
    @pytest.mark.parametrize("use", USES)
    @pytest.mark.parametrize(
        "name",
        ["", " ", "\t\n", "x" * 256, "null\x00", "\ud800", "é\udc80", 7],
        ids=["empty", "blank", "white space", "too long", "null", "surrogate", "surrogate in text", "number"],
    )
    def test_invalid_names_are_rejected_everywhere_with_one_wording(self, use: str, name: Any) -> None:
        function, error, subject = USES[use]
        with pytest.raises(error, match=rf"{re.escape(subject)}.* ?{re.escape(NAME_RULE)}, got "):
            function(name)

    @pytest.mark.parametrize("message_id", ["", " ", "x" * 256, "null\x00", "\ud800"])
    def test_invalid_message_ids_are_rejected_by_the_inbox(self, message_id: str) -> None:
        with pytest.raises(ValueError, match=f"the message id {NAME_RULE}"):
            _handle("mailer", message_id)

    @pytest.mark.parametrize("name", ["", " ", "x" * 256, "null\x00", "\ud800"])
    def test_invalid_destinations_are_rejected_by_the_settings(self, settings: Settings, name: str) -> None:
        settings.ES_DJANGO = {"DESTINATIONS": {name: {"PUBLISHER": "tests.publishers.Recorder"}}}
        with pytest.raises(ImproperlyConfigured, match=NAME_RULE):
            es_django_settings()

    @pytest.mark.parametrize("name", ["x", "x" * 255, "é" * 255, " padded ", "\N{PILE OF POO}"], ids=ascii)
    def test_printable_names_are_accepted_everywhere(self, name: str) -> None:
        assert StreamId(name, name).key == name
        _append(correlation_id=name, causation_id=name)
        outbox.send("tests", type=name, key=name, data={}, headers={name: name})
        _handle(name, name)
        _lease(name)


class TestStreamId:
    @pytest.mark.parametrize("value", ["", "  ", "x" * 256, "null\x00", "\udc80", 7, None])
    def test_invalid_categories_and_keys_are_rejected(self, value: Any) -> None:
        with pytest.raises(InvalidStreamId, match="category"):
            StreamId(value, "key")
        with pytest.raises(InvalidStreamId, match="key"):
            StreamId("category", value)

    def test_category_and_key_are_compared_separately(self) -> None:
        assert StreamId("a-b", "c") != StreamId("a", "b-c")
        assert len({StreamId("a", "b"), StreamId("a", "b"), StreamId("b", "a")}) == 2

    def test_a_long_value_is_cut_in_the_message(self) -> None:
        with pytest.raises(InvalidStreamId) as caught:
            StreamId("ledger", "x" * 10_000)
        assert len(str(caught.value)) < 250
