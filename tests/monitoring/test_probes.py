"""The probes tell an orchestrator what it may know, and keep web processes in service while others lag."""

import json
from collections.abc import Iterator
from unittest import mock

import pytest
from django.db import OperationalError, connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from es_django import outbox
from es_django.models import OutboxMessage
from es_django.monitoring import health, probes
from tests.publishers import Recorder

urlpatterns = probes.urlpatterns


@pytest.fixture(autouse=True)
def _routed(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__


def answer(path: str) -> tuple[int, str]:
    response = Client().get(path)
    assert "no-cache" in response["Cache-Control"]
    return response.status_code, response.content.decode()


@pytest.fixture
def broken_database() -> Iterator[None]:
    secret = 'connection to server at "10.0.0.7" failed: password authentication failed for user "ada"'
    with mock.patch.object(connections["default"], "cursor", side_effect=OperationalError(secret)):
        yield


def test_a_process_lives_without_a_database() -> None:
    # pytest-django fails a test that is not marked and asks the database
    assert answer("/live") == (200, "alive\n")


@pytest.mark.django_db
def test_a_migrated_database_that_answers_makes_it_ready(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    answer("/ready")
    with django_assert_num_queries(2):
        status, told = answer("/ready")
    assert (status, json.loads(told)) == (200, {"database": True, "migrations": True})


@pytest.mark.django_db
def test_a_missing_migration_makes_it_not_ready() -> None:
    MigrationRecorder(connection).migration_qs.filter(app="es_django").delete()
    status, told = answer("/ready")
    assert (status, json.loads(told)) == (503, {"database": True, "migrations": False})


@pytest.mark.django_db
@pytest.mark.usefixtures("broken_database")
@pytest.mark.parametrize("atomic_requests", [False, True])
def test_a_database_that_does_not_answer_makes_it_not_ready_and_tells_nothing_of_the_inside(
    monkeypatch: pytest.MonkeyPatch, atomic_requests: bool
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", atomic_requests)
    status, told = answer("/ready")
    assert (status, json.loads(told)) == (503, {"database": False, "migrations": False})
    assert answer("/live") == (200, "alive\n")


@pytest.mark.django_db
def test_a_problem_of_the_outbox_leaves_it_ready(recorder: type[Recorder]) -> None:
    outbox.send("tests", type="tests.note", data=1)
    OutboxMessage.objects.update(status="dead", failed_at="2026-01-01T00:00:00Z")
    assert health.status().problems
    assert answer("/ready")[0] == 200


@pytest.mark.parametrize("path", ["/live", "/ready"])
def test_the_probes_are_only_read(path: str) -> None:
    assert Client().post(path).status_code == 405
