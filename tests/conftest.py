import os
import shutil
import socket
from collections.abc import Generator
from pathlib import Path
from typing import NoReturn

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.db.models.signals import post_migrate
from pytest_django import Settings

from es_django.apps import record_inline_projections
from testproject.celery import app
from tests.publishers import Recorder

REQUIRE_SERVICES = os.environ.get("ES_DJANGO_REQUIRE_SERVICES") == "1"
TESTS = Path(__file__).parent
SLOW_DIRECTORIES = {"browser", "crash", "demo", "model"}


def pytest_configure() -> None:
    # Neither a test nor a process that a test starts may leave tasks for a worker of the development project.
    os.environ["CELERY_BROKER_URL"] = "memory://"
    app.conf.update(broker_url="memory://", broker_transport_options={})
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    for vendor in ("postgresql", "sqlite"):
        if item.get_closest_marker(f"requires_{vendor}") and connection.vendor != vendor:
            pytest.skip(f"about {vendor} alone, and this run is on {connection.vendor}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(TESTS).parts[0] in SLOW_DIRECTORIES:
            item.add_marker("slow")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # pytest-xdist sends reports as UTF-8, which cannot express the lone surrogates that some tests log.
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture(scope="session")
def rabbitmq_url() -> str:
    return _service("RabbitMQ", 5672, "amqp://guest:guest@127.0.0.1:5672//")


@pytest.fixture(scope="session")
def redis_url() -> str:
    return _service("Redis", 6379, "redis://127.0.0.1:6379/15")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of the browser that playwright starts."""
    return shutil.which("chromium") or _missing("chromium is not installed")


def _service(name: str, port: int, url: str) -> str:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        _missing(f"{name} does not answer on port {port}")
    return url


def _missing(reason: str) -> NoReturn:
    if REQUIRE_SERVICES:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def recorder(settings: Settings) -> type[Recorder]:
    """Return the publisher of the destination "tests"."""
    Recorder.reset()
    settings.ES_DJANGO = {"DESTINATIONS": {"tests": {"PUBLISHER": "tests.publishers.Recorder"}}}
    return Recorder


@pytest.fixture(scope="session", autouse=True)
def _no_checkpoint_before_a_test_makes_one() -> None:
    """Keep a flush from storing which projections are inline. A flush sends `post_migrate`, like a migration."""
    assert post_migrate.disconnect(record_inline_projections, sender=apps.get_app_config("es_django"))
