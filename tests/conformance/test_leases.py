"""A lease keeps others out while it lives, and no longer."""

import time

import pytest

from es_django import ConcurrencyError, Repository
from es_django.errors import LeaseLost, LeaseTaken
from es_django.locks import LeaseLock, lease_lock
from es_django.models import Lease
from tests.domain import Ledger
from tests.threads import threads

pytestmark = pytest.mark.django_db(transaction=True)


def lock(seconds: float = 30) -> LeaseLock:
    return LeaseLock("rebuild", seconds, "default")


def test_it_is_exclusive_while_it_lives_and_free_after_release() -> None:
    first, second = lock(), lock()
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()


def test_it_comes_free_after_its_time_and_not_before() -> None:
    first, second = lock(seconds=0.3), lock()
    started = time.monotonic()
    assert first.acquire()
    while not second.acquire():
        assert time.monotonic() - started < 10
    assert time.monotonic() - started >= 0.299


def test_a_former_holder_frees_and_renews_nothing() -> None:
    first, second = lock(seconds=0.001), lock()
    assert first.acquire()
    while not second.acquire():
        pass
    first.release()
    with pytest.raises(LeaseLost):
        first.renew()
    assert not lock().acquire()
    second.renew()


def test_renewing_keeps_it() -> None:
    with lease_lock("rebuild", seconds=20) as held:
        before = Lease.objects.get().expires_at
        held.renew()
        assert Lease.objects.get().expires_at > before
        with pytest.raises(LeaseTaken), lease_lock("rebuild", timeout=0.1):
            raise AssertionError("it was held")
    assert not Lease.objects.exists()


def test_of_many_that_ask_at_once_one_gets_it() -> None:
    with threads(8) as submit:
        granted = [submit(lock().acquire) for _ in range(8)]
    assert sum(each.result() for each in granted) == 1


def test_the_version_is_the_fence_behind_it() -> None:
    ledgers = Repository(Ledger)
    ledgers.save(Ledger.open("l-1"))
    stale = ledgers.get("l-1")
    with lease_lock("l-1"):
        ledgers.execute("l-1", lambda ledger: ledger.deposit(1))
    stale.deposit(2)
    with pytest.raises(ConcurrencyError):
        ledgers.save(stale)
