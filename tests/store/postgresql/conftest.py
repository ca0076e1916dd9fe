import pytest
from pytest_django import Settings


@pytest.fixture(params=["libpq", "plain cursor", "DEBUG"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> str:
    """How statements reach PostgreSQL: the fast way, Django's cursor where a part of it is missing, and with DEBUG."""
    from es_django.store.postgresql import execution, plain_cursor, prepared  # need psycopg

    chosen = plain_cursor.fetch if request.param == "plain cursor" else prepared.fetch
    monkeypatch.setattr(execution, "_fetch", chosen)
    settings.DEBUG = request.param == "DEBUG"
    return str(request.param)
