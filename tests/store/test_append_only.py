"""The database refuses to change or delete events."""

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from es_django import Repository
from es_django.models import StoredEvent
from tests.domain import Ledger

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _an_event() -> None:
    Repository(Ledger).save(Ledger.open("l-1"))


def execute(*statements: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


class TestAppendOnlyTrigger:
    def test_an_update_is_refused(self) -> None:
        with pytest.raises(DatabaseError, match="append-only"):
            execute("UPDATE es_django_event SET type = 'other'")
        assert StoredEvent.objects.get().type == "tests.ledger_opened"

    @pytest.mark.requires_postgresql
    def test_a_delete_is_refused(self) -> None:
        with pytest.raises(DatabaseError, match="append-only"):
            execute("DELETE FROM es_django_event")
        assert StoredEvent.objects.exists()

    @pytest.mark.requires_postgresql
    def test_only_a_maintenance_transaction_may_change_events(self) -> None:
        execute("SET LOCAL es_django.maintenance = on", "UPDATE es_django_event SET type = 'other'")
        assert StoredEvent.objects.get().type == "other"
        with pytest.raises(DatabaseError, match="append-only"):
            execute("DELETE FROM es_django_event")
        execute("SET LOCAL es_django.maintenance = on", "DELETE FROM es_django_event")
        assert not StoredEvent.objects.exists()

    def test_djangos_flush_empties_the_table(self) -> None:
        call_command("flush", interactive=False, verbosity=0)
        assert not StoredEvent.objects.exists()
