"""The circuit of an unreachable destination stays open for a limited time."""

import pytest
from pytest_django import Settings

from es_django.errors import DestinationUnreachable
from es_django.outbox import circuit_breaker


class TestCircuitBreaker:
    def test_a_circuit_stays_open_longer_after_each_failure_up_to_10_seconds(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.ES_DJANGO = {"OUTBOX": {"BACKOFF": {"base": 3, "factor": 2, "max": 3600}}}
        now = 0.0
        monkeypatch.setattr("time.monotonic", lambda: now)
        assert not circuit_breaker.is_open("tests")
        assert circuit_breaker.unreachable_destinations() == {}
        for pause in (3, 6, 10, 10):
            circuit_breaker.record_failure("tests", DestinationUnreachable("refused"))
            now += pause - 0.5
            assert circuit_breaker.is_open("tests")
            assert not circuit_breaker.is_open("others")
            now += 0.5
            assert not circuit_breaker.is_open("tests")
            assert [(name, str(error)) for name, error in circuit_breaker.unreachable_destinations().items()] == [
                ("tests", "refused")
            ]
        circuit_breaker.record_success("tests")
        assert circuit_breaker.unreachable_destinations() == {}
        circuit_breaker.record_failure("tests", DestinationUnreachable("refused"))
        now += 3
        assert not circuit_breaker.is_open("tests")

    def test_a_circuit_that_another_thread_closes_in_between_raises_no_error(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Vanishing(dict[str, object]):
            def __contains__(self, name: object) -> bool:
                return super().__contains__(name) and self.pop(str(name)) is not None

        circuit_breaker.record_failure("tests", DestinationUnreachable("refused"))
        monkeypatch.setattr(circuit_breaker, "_circuits", Vanishing(circuit_breaker._circuits))
        circuit_breaker.is_open("tests")
        circuit_breaker.record_failure("tests", DestinationUnreachable("refused"))
