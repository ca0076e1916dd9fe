"""One suite for all backends: each test runs on the database of this run, and on the store in memory as well unless it
says that it is about the database."""

from collections.abc import Iterator

import pytest
from django.db import connection

from es_django.testing import in_memory


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" not in metafunc.fixturenames:
        return
    backends = [connection.vendor]
    if connection.vendor == "sqlite" and not metafunc.definition.get_closest_marker("database_alone"):
        backends.append("memory")
    metafunc.parametrize("backend", backends, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "memory":
        with in_memory():
            yield "memory"
    else:
        yield request.param
