import copy
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from es_django import Event, PendingEvent, StreamId
from es_django.core.registry import registry
from es_django.errors import PayloadError


class Measured(Event):
    value: Any = None
    at: datetime | None = None

    class Meta:
        name = "tests.measured"


class TestEvent:
    def test_an_event_is_frozen(self) -> None:
        with pytest.raises(AttributeError):
            Measured(value=1).value = 2  # type: ignore[misc]

    def test_an_event_takes_keywords_only(self) -> None:
        with pytest.raises(TypeError):
            Measured(1)  # type: ignore[call-arg]

    def test_deepcopy_returns_the_same_event(self) -> None:
        event = Measured(value=[1])
        assert copy.deepcopy([event])[0] is event


class TestPendingEvent:
    def test_a_payload_survives_the_round_trip(self) -> None:
        event = Measured(
            value={"a": [1, 2.5, None, "é\n\\u0000"]}, at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
        )
        assert registry.decode(StreamId("ledger", "l-1"), 7, "tests.measured", 1, PendingEvent(event).data) == [event]

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
    def test_the_error_names_the_field_that_cannot_be_stored(self, value: object, field: str) -> None:
        with pytest.raises(PayloadError) as caught:
            PendingEvent(Measured(value=value))
        assert (caught.value.owner, caught.value.field) == ("tests.measured", field)
        assert not caught.value.retryable

    def test_the_error_names_only_the_fields_that_json_changes(self) -> None:
        class Paired(Event):
            kept: int
            changed: Any

        with pytest.raises(PayloadError, match=r"Paired\.changed: would be read back as a different value"):
            PendingEvent(Paired(kept=1, changed={1: "a key that JSON turns into text"}))

    def test_each_pending_event_has_a_new_id(self) -> None:
        first, second = PendingEvent(Measured()), PendingEvent(Measured())
        assert first.event_id != second.event_id
        assert first.event_id.version == 7

    def test_a_given_id_is_kept(self) -> None:
        given = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
        assert PendingEvent(Measured(), given).event_id == given

    def test_an_instance_of_the_base_class_is_rejected(self) -> None:
        with pytest.raises(TypeError, match="is not an instance of an Event subclass"):
            PendingEvent(Event())
