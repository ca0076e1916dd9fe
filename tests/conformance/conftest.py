"""Run each conformance test on the database of this run. Tests without the mark `database_alone` also run on the
store in memory."""

from collections.abc import Iterator

import pytest
from django.db import connection

from es_django.testing import in_memory

PLAIN_CURSOR = "postgresql through Django's cursor"
FETCHING = {"test_append", "test_log", "test_snapshots"}
"""The modules whose tests also run without prepared statements."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" not in metafunc.fixturenames:
        return
    backends = [connection.vendor]
    if connection.vendor == "postgresql" and metafunc.module.__name__.rpartition(".")[2] in FETCHING:
        backends.append(PLAIN_CURSOR)
    if connection.vendor == "sqlite" and not metafunc.definition.get_closest_marker("database_alone"):
        backends.append("memory")
    metafunc.parametrize("backend", backends, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "memory":
        with in_memory():
            yield "memory"
    elif request.param == PLAIN_CURSOR:
        # imported here because these modules need psycopg
        from es_django.store.postgresql import execution, plain_cursor

        monkeypatch.setattr(execution, "_fetch", plain_cursor.fetch)
        yield "postgresql"
    else:
        yield request.param
