"""A batch that outlives its lease is halved, and grows again after batches that end in time."""

import pytest
from pytest_django import Settings

from es_django import outbox
from es_django.outbox import batch_share
from es_django.outbox.backends import outbox_store
from es_django.outbox.relay import relay
from tests.outbox.rows import end_pauses, expire_leases
from tests.publishers import Recorder


class TestBatchShare:
    def test_fault_e7_the_share_is_halved_and_doubled_within_limits(self) -> None:
        shares = []
        for in_time in (False, False, True, True, True):
            batch_share.record("halved", in_time=in_time)
            shares.append(batch_share.of("halved"))
        assert shares == [0.5, 0.25, 0.5, 1, 1]
        for _ in range(40):
            batch_share.record("halved", in_time=False)
        assert batch_share.of("halved") == batch_share.SMALLEST
        batch_share._shares.clear()

    @pytest.mark.django_db(transaction=True)
    def test_fault_e7_the_next_batch_after_lost_claims_is_smaller(
        self, recorder: type[Recorder], settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"BATCH_SIZE": 8}}
        limits: list[int] = []
        claim = type(outbox_store()).claim

        def slow_claim(store: object, *names: str, limit: int, **options: float) -> object:
            limits.append(limit)
            claims = claim(store, *names, limit=limit, **options)  # type: ignore[arg-type]
            if limit > 2:
                expire_leases()
            return claims

        monkeypatch.setattr(type(outbox_store()), "claim", slow_claim)
        for _ in range(8):
            outbox.send("tests", type="noted", data=None)
        for _ in range(3):
            relay("tests")
            end_pauses()
        assert limits[:3] == [8, 4, 2]
        assert recorder.published
