"""Several relays at once deliver each message in the order of its key, although the publisher fails at random."""

from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from pytest_django import Settings

from es_django.models import OutboxMessage
from es_django.outbox import relay as relay_module
from es_django.outbox.relay import relay
from es_django.outbox.states import OPEN, Status
from tests.crash.deliveries import assert_each_key_is_in_order, counts, deliveries, noting, send
from tests.processes import run_processes

RELAYS = 4
MESSAGES = 10_000
PER_KEY = 100


def relay_all(barrier: Barrier, es_django: dict[str, Any]) -> int:
    override_settings(ES_DJANGO=es_django).enable()
    relay_module.CALL_SIZE = 10  # so that each relay starts a second thread
    barrier.wait()
    published = 0
    while OutboxMessage.objects.filter(status__in=OPEN).exists():
        published += relay()
    return published


class TestManyRelays:
    @pytest.mark.django_db(transaction=True)
    def test_each_key_keeps_its_order_although_publishing_fails_at_random(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        noted = tmp_path / "deliveries"
        fast = {"BATCH_SIZE": 25, "BACKOFF": {"base": 0.01, "max": 0.05}}
        settings.ES_DJANGO = noting(noted, outbox=fast, failures=0.05)
        send([f"k-{number % (MESSAGES // PER_KEY)}" for number in range(MESSAGES)])
        published = run_processes(relay_all, [(settings.ES_DJANGO,)] * RELAYS, timeout=300)
        assert set(OutboxMessage.objects.values_list("status", flat=True)) == {Status.PUBLISHED}
        assert sum(published) == MESSAGES
        assert all(published), "each relay must publish some messages"
        assert len(counts(noted)) == MESSAGES
        assert_each_key_is_in_order(deliveries(noted))
