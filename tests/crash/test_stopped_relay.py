"""A stopped relay finishes the messages that its publisher has, and returns the rest untried."""

from pathlib import Path

import pytest
from pytest_django import Settings

from es_django.outbox.relay import relay
from es_django.outbox.states import Status
from tests.crash.deliveries import assert_each_key_is_in_order, counts, deliveries, noting, send
from tests.crash.relays import RelayProcess
from tests.outbox.rows import rows

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def noted(settings: Settings, tmp_path: Path) -> Path:
    path = tmp_path / "deliveries"
    settings.ES_DJANGO = noting(path)
    return path


class TestStoppedRelay:
    def test_a_relay_that_is_stopped_within_a_slow_batch_returns_the_unsent_messages(
        self, noted: Path, settings: Settings, tmp_path: Path
    ) -> None:
        gate = tmp_path / "gate"
        send(["k", "l", "k", None, "k"])
        with RelayProcess(noting(noted, gate=str(gate)), tmp_path) as process:
            process.wait_until(lambda: len(deliveries(noted)) == 3, timeout=60)
            process.terminate()
            gate.touch()
            assert process.exit_code(timeout=60) == 0
        done, waiting = (Status.PUBLISHED, 1), (Status.PENDING, 0)
        assert [row[:2] for row in rows()] == [done, done, waiting, done, waiting]
        assert relay() == 2
        assert counts(noted) == [1] * 5
        assert_each_key_is_in_order(deliveries(noted))

    def test_an_idle_relay_stops_soon(self, noted: Path, tmp_path: Path) -> None:
        send(["k"])
        with RelayProcess(noting(noted), tmp_path, interval=3600) as process:
            process.wait_until(lambda: rows()[0].status is Status.PUBLISHED and process.is_idle(), timeout=60)
            process.terminate()
            assert process.exit_code(timeout=60) == 0


class TestSlowPublisher:
    def test_a_commit_does_not_wait_for_a_slow_publisher(self, noted: Path, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        send(["k"])
        with RelayProcess(noting(noted, gate=str(gate)), tmp_path) as process:
            process.wait_until(lambda: len(deliveries(noted)) == 1, timeout=60)
            send(["k", "l"], first=1)
            assert [row.status for row in rows()] == [Status.CLAIMED, Status.PENDING, Status.PENDING]
            gate.touch()
            process.wait_until(lambda: {row.status for row in rows()} == {Status.PUBLISHED}, timeout=60)
        assert counts(noted) == [1] * 3
