"""The probes reveal no internals, and web processes stay in service while projections or messages lag."""

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


class TestLiveness:
    def test_a_process_is_alive_without_a_database(self) -> None:
        # pytest-django fails a test that queries the database without a mark
        assert answer("/live") == (200, "alive\n")


class TestReadiness:
    @pytest.mark.django_db
    def test_a_process_is_ready_if_its_database_is_migrated(
        self, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        answer("/ready")
        with django_assert_num_queries(2):
            status, body = answer("/ready")
        assert (status, json.loads(body)) == (200, {"database": True, "migrations": True})

    @pytest.mark.django_db
    def test_a_process_is_not_ready_if_a_migration_is_missing(self) -> None:
        MigrationRecorder(connection).migration_qs.filter(app="es_django").delete()
        status, body = answer("/ready")
        assert (status, json.loads(body)) == (503, {"database": True, "migrations": False})

    @pytest.mark.django_db
    @pytest.mark.usefixtures("broken_database")
    @pytest.mark.parametrize("atomic_requests", [False, True])
    def test_a_process_is_not_ready_if_its_database_fails_and_the_answer_has_no_details(
        self, monkeypatch: pytest.MonkeyPatch, atomic_requests: bool
    ) -> None:
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", atomic_requests)
        status, body = answer("/ready")
        assert (status, json.loads(body)) == (503, {"database": False, "migrations": False})
        assert answer("/live") == (200, "alive\n")

    @pytest.mark.django_db
    def test_a_process_stays_ready_if_messages_are_dead(self, recorder: type[Recorder]) -> None:
        outbox.send("tests", type="tests.note", data=1)
        OutboxMessage.objects.update(status="dead", failed_at="2026-01-01T00:00:00Z")
        assert health.status().problems
        assert answer("/ready")[0] == 200


class TestMethods:
    @pytest.mark.parametrize("path", ["/live", "/ready"])
    def test_a_post_request_is_answered_with_405(self, path: str) -> None:
        assert Client().post(path).status_code == 405
