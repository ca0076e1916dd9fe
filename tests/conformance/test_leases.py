"""A lease excludes other owners until it expires or is released."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from es_django import ConcurrencyError, Repository
from es_django.errors import LeaseLost, LeaseTaken
from es_django.leases import LeaseLock, lease_lock
from es_django.models import Lease
from tests.domain import Ledger
from tests.threads import threads

pytestmark = pytest.mark.django_db(transaction=True)


def lock(seconds: float = 30) -> LeaseLock:
    return LeaseLock("rebuild", seconds, "default")


class TestLease:
    def test_lease_is_exclusive_until_it_is_released(self) -> None:
        first, second = lock(), lock()
        assert first.acquire()
        assert not second.acquire()
        first.release()
        assert second.acquire()

    def test_lease_expires_after_its_seconds_and_not_before(self) -> None:
        first, second = lock(seconds=0.3), lock()
        started = time.monotonic()
        assert first.acquire()
        while not second.acquire():
            assert time.monotonic() - started < 10
        assert time.monotonic() - started >= 0.299

    def test_one_of_many_concurrent_owners_gets_the_lease(self) -> None:
        with threads(8) as submit:
            granted = [submit(lock().acquire) for _ in range(8)]
        assert sum(each.result() for each in granted) == 1

    def test_renewed_lease_stays_held(self) -> None:
        with lease_lock("rebuild", seconds=20) as held:
            before = Lease.objects.get().expires_at
            held.renew()
            assert Lease.objects.get().expires_at > before
            with pytest.raises(LeaseTaken), lease_lock("rebuild", timeout=0.1):
                raise AssertionError("the lease was granted")
        assert not Lease.objects.exists()

    def test_expired_lease_cannot_be_renewed_even_if_it_is_free(self) -> None:
        held = lock(seconds=0.001)
        assert held.acquire()
        wait_until_expired(held)
        with pytest.raises(LeaseLost):
            held.renew()
        assert lock().acquire()

    def test_former_owner_neither_releases_nor_renews(self) -> None:
        first, second = lock(seconds=0.001), lock()
        assert first.acquire()
        while not second.acquire():
            pass
        first.release()
        with pytest.raises(LeaseLost):
            first.renew()
        assert not lock().acquire()
        second.renew()

    def test_acquiring_and_releasing_changes_no_other_lease(self) -> None:
        ended, other = LeaseLock("ended", 0.001, "default"), LeaseLock("other", 30, "default")
        assert ended.acquire()
        assert other.acquire()
        wait_until_expired(ended)
        held = lock()
        assert held.acquire()
        assert set(Lease.objects.values_list("name", "token")) == {
            (each.name, each._token) for each in (ended, other, held)
        }
        held.renew()
        held.release()
        assert set(Lease.objects.values_list("name", flat=True)) == {"ended", "other"}

    def test_expected_version_protects_the_stream_from_a_former_owner(self) -> None:
        ledgers = Repository(Ledger)
        ledgers.save(Ledger.open("l-1"))
        stale = ledgers.get("l-1")
        with lease_lock("l-1"):
            ledgers.execute("l-1", lambda ledger: ledger.deposit(1))
        stale.deposit(2)
        with pytest.raises(ConcurrencyError):
            ledgers.save(stale)


def wait_until_expired(held: LeaseLock) -> None:
    deadline = time.monotonic() + 10
    while held._own_lease().filter(expires_at__gt=Now()).exists():
        assert time.monotonic() < deadline


class TestWaiting:
    def test_waiting_owner_gets_the_lease_once_it_is_free(self) -> None:
        first, asked = lock(), threading.Event()
        assert first.acquire()

        def wait() -> None:
            with lease_lock("rebuild", timeout=30):
                assert not first._own_lease().exists()

        with threads(1) as submit, pytest.MonkeyPatch.context() as patch:
            patch.setattr("time.sleep", lambda seconds: asked.set())
            waiting = submit(wait)
            assert asked.wait(30)
            first.release()
            waiting.result(30)

    def test_acquiring_without_a_timeout_does_not_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert lock().acquire()
        monkeypatch.delattr("time.sleep")
        with pytest.raises(LeaseTaken), lease_lock("rebuild"):
            raise AssertionError("the lease was granted")


INVALID_SECONDS = [-0.001, float("nan"), float("inf"), 2_147_484, True, "5"]


class TestArguments:
    @pytest.mark.parametrize("name", ["", " ", "x" * 256, "a\x00b", "\ud800", None, 7], ids=ascii)
    def test_invalid_names_are_rejected(self, name: Any) -> None:
        with (
            pytest.raises(ValueError, match="a lease's name must be a string of 1 to 255 characters"),
            lease_lock(name),
        ):
            raise AssertionError("the lease was granted")

    @pytest.mark.parametrize("name", ["x", "x" * 255, "é"])
    def test_valid_names_are_accepted(self, name: str) -> None:
        with lease_lock(name) as held:
            assert Lease.objects.get().name == held.name == name

    @pytest.mark.parametrize("seconds", INVALID_SECONDS, ids=repr)
    def test_invalid_seconds_are_rejected(self, seconds: Any) -> None:
        with pytest.raises(ValueError, match="seconds must be a number of seconds from 0 to 2147483, got"):
            lock(seconds)
        with (
            pytest.raises(ValueError, match="timeout must be a number of seconds"),
            lease_lock("rebuild", timeout=seconds),
        ):
            raise AssertionError("the lease was granted")
        assert not Lease.objects.exists()

    @pytest.mark.parametrize("seconds", [0, 0.0, 1e-9])
    def test_lease_of_zero_seconds_is_rejected(self, seconds: float) -> None:
        with pytest.raises(ValueError, match="a lease must last more than 0 seconds"):
            lock(seconds)

    def test_lease_may_last_for_the_longest_timeout(self) -> None:
        with lease_lock("rebuild", seconds=2_147_483, timeout=2_147_483):
            assert Lease.objects.get().expires_at > timezone.now() + timedelta(days=24)
