"""The heartbeat renews claims, and gives them up if it cannot."""

import logging
import time
from typing import Any
from unittest.mock import Mock

import pytest

from es_django import Message, StorageError, tasks
from es_django.outbox.heartbeat import Heartbeat
from es_django.outbox.port import Claim

CLAIM = Claim(1, 1, Message(type="tests.noted", data=None, destination="tests"))


def heartbeat(store: Any, *, renewed: float) -> Heartbeat:
    """Return a heartbeat whose last renewal was so many seconds ago. Its thread does not run."""
    now = time.monotonic()
    made = Heartbeat(store, "worker-1", [CLAIM], claimed_at=now - renewed, lease=30)
    made.record_progress()
    return made


class TestFailedRenewal:
    @pytest.mark.parametrize(("renewed", "is_held"), [(10, True), (31, False)])
    def test_claims_are_held_until_their_lease_is_over(
        self, caplog: pytest.LogCaptureFixture, renewed: float, is_held: bool
    ) -> None:
        store = Mock()
        store.extend.side_effect = StorageError("renew claims", True, "the connection is lost")
        beating = heartbeat(store, renewed=renewed)
        beating._renew()
        assert beating.holds(CLAIM) == is_held
        assert beating._held == ({CLAIM.id} if is_held else set())
        assert "worker worker-1 could not renew its claims" in caplog.text

    def test_a_renewal_keeps_the_claims_that_the_store_still_knows(self) -> None:
        store = Mock()
        store.extend.return_value = {CLAIM.id}
        beating = heartbeat(store, renewed=29)
        beating._renew()
        assert beating.holds(CLAIM)
        store.extend.return_value = set()
        beating._renew()
        assert not beating.holds(CLAIM)


class TestTask:
    @pytest.mark.parametrize("retryable", [True, False])
    def test_a_database_that_fails_for_a_moment_is_left_to_the_next_run(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, retryable: bool
    ) -> None:
        monkeypatch.setattr(tasks, "has_open_messages", Mock(side_effect=StorageError("look", retryable, "down")))
        if retryable:
            tasks.relay_outbox()
            (record,) = caplog.records
            assert (record.levelno, record.name) == (logging.WARNING, "es_django.outbox")
            assert "the next scheduled run continues" in record.getMessage()
        else:
            with pytest.raises(StorageError):
                tasks.relay_outbox()
