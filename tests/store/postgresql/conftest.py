import pytest
from pytest_django import Settings


@pytest.fixture(params=["libpq", "plain cursor", "DEBUG"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> str:
    """Use one of the ways to PostgreSQL: prepared statements, Django's cursor if a part is missing, and with DEBUG."""
    # imported here because these modules need psycopg
    from es_django.store.postgresql import execution, plain_cursor, prepared

    chosen = plain_cursor.fetch if request.param == "plain cursor" else prepared.fetch
    monkeypatch.setattr(execution, "_fetch", chosen)
    settings.DEBUG = request.param == "DEBUG"
    return str(request.param)
