"""On PostgreSQL what is done again and again is planned once for each connection, unless the setting forbids it."""

import pytest
from django.db import connection
from pytest_django import Settings

from es_django import Repository
from tests.domain import Ledger

pytestmark = [pytest.mark.django_db, pytest.mark.requires_postgresql]

ledgers = Repository(Ledger)


def prepared() -> set[str]:
    """What the connection has prepared by now."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        found = {statement for (statement,) in cursor.fetchall()}
    return {"append" if "es_django_stream AS stream" in statement else "load" for statement in found}


@pytest.fixture(autouse=True)
def _nothing_is_prepared_yet() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")


def save_and_load() -> None:
    ledgers.save(Ledger.open("l-1"))
    assert ledgers.get("l-1").version == 1


def test_appends_and_loads_are_prepared() -> None:
    save_and_load()
    assert prepared() == {"append", "load"}


def test_nothing_is_prepared_where_the_setting_forbids_it(settings: Settings) -> None:
    settings.ES_DJANGO = {**settings.ES_DJANGO, "PREPARED_STATEMENTS": False}
    save_and_load()
    assert prepared() == set()


def test_the_connections_own_threshold_is_left_alone() -> None:
    connection.ensure_connection()
    before = connection.connection.prepare_threshold
    save_and_load()
    assert connection.connection.prepare_threshold == before
