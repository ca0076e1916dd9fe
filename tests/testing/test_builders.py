"""The builders need no database: these tests have no `django_db` marker, so a query would fail."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from es_django import StreamId
from es_django.errors import PayloadError
from es_django.testing import message, recorded, staged
from testproject.bank.events import AccountOpened, MoneyDeposited
from testproject.bank.models import Balance
from testproject.bank.outbox import money_in
from testproject.bank.projections import Balances
from tests.domain import Annotated

STREAM = StreamId("account", "ada")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class TestEvents:
    def test_a_publication_accepts_an_event_made_by_staged(self) -> None:
        made = money_in(staged(MoneyDeposited(amount=Decimal(5)), stream=STREAM))
        assert (made.key, made.data) == ("ada", {"account": "ada", "amount": "5"})

    @pytest.mark.django_db
    def test_a_projection_accepts_an_event_made_by_recorded(self) -> None:
        events = [AccountOpened(owner="Ada"), MoneyDeposited(amount=Decimal(5))]
        Balances().project_batch(
            [recorded(event, stream=STREAM, version=version) for version, event in enumerate(events, 1)]
        )
        assert Balance.objects.get().balance == 5

    def test_a_recorded_event_has_the_fields_of_a_stored_event(self) -> None:
        event = MoneyDeposited(amount=Decimal(5))
        made = recorded(event, stream=STREAM, version=7, position=9, metadata={"user": "ada"}, recorded_at=NOON)
        assert (made.event, made.stream, made.metadata) == (event, STREAM, {"user": "ada"})
        assert (made.version, made.position, made.recorded_at) == (7, 9, NOON)
        assert (made.type, made.schema_version) == ("bank.money_deposited", 1)
        assert recorded(event, version=7).position == 7
        assert recorded(event).event_id != recorded(event).event_id


class TestMessages:
    def test_message_data_are_converted_to_json_types(self) -> None:
        made = message("noted", {"at": NOON, "amount": Decimal("1.50")}, key="k", headers={"user": "ada"})
        assert made.data == {"at": "2026-01-01T12:00:00Z", "amount": "1.50"}
        assert (made.type, made.key, made.headers) == ("noted", "k", {"user": "ada"})


class TestErrors:
    def test_values_that_cannot_be_stored_are_rejected(self) -> None:
        for build in (staged, recorded):
            with pytest.raises(PayloadError):
                build(Annotated(note=float("nan")))
        with pytest.raises(PayloadError):
            message("noted", {"amount": float("nan")})
