"""Writers that wait for the lock of a stream get it in order of arrival."""

import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest
from django.db import connection, transaction

from es_django import (
    ANY,
    Aggregate,
    AggregateNotFound,
    ConcurrencyError,
    Repository,
    StorageError,
    StreamId,
    event_store,
)
from es_django.errors import LockTimeout, UnappliedEvent
from es_django.store.backends import store_for
from es_django.store.fair_lock import FairLock, fair_lock
from es_django.store.memory import MemoryEventStore
from tests.domain import Annotated, Ledger
from tests.processes import run_processes
from tests.threads import threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("backend")]

ledgers = Repository(Ledger)


@pytest.fixture(autouse=True)
def _a_ledger(backend: str) -> None:
    ledgers.save(Ledger.open("l-1"))


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the condition did not become true within the time limit"
        time.sleep(0.005)


def waiters() -> int:
    """Return how many writers wait for the lock of the stream, as the lock itself counts them."""
    if connection.vendor == "sqlite":
        return max(0, tickets() - 1)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND NOT granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return int(cursor.fetchone()[0])


def tickets() -> int:
    store = store_for()
    return fair_lock((id(store) if isinstance(store, MemoryEventStore) else "default", Ledger("l-1").stream)).waiting


def annotate_under_lock(note: Any) -> None:
    with ledgers.lock("l-1", timeout=30) as ledger:
        ledger.annotate(note)


class TestOrderOfArrival:
    def test_threads_get_the_lock_in_order_of_arrival(self) -> None:
        held, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            with ledgers.lock("l-1"):
                held.set()
                assert go_on.wait(30)

        with threads(11) as submit:
            submit(hold)
            assert held.wait(30)
            done = []
            for number in range(10):
                done.append(submit(annotate_under_lock, number))
                wait_until(lambda number=number: waiters() == number + 1)  # type: ignore[misc]
            go_on.set()
            for each in done:
                each.result(30)
        ledger = ledgers.get("l-1")
        assert (ledger.version, ledger.notes) == (11, list(range(10)))

    @pytest.mark.requires_postgresql
    @pytest.mark.slow
    def test_processes_get_the_lock_in_order_of_arrival(self) -> None:
        run_processes(arrive_in_turn, [(number,) for number in range(11)], timeout=120)
        assert ledgers.get("l-1").notes == list(range(1, 11))

    def test_ticket_lock_alone_keeps_the_order_of_arrival(self) -> None:
        """Use no database: only the tickets can keep the order, because a plain mutex may wake any waiter."""
        lock, order = FairLock(), list[int]()

        def enter(number: int) -> None:
            with lock.held(30) as granted:
                assert granted
                order.append(number)

        with threads(20) as submit, lock.held(None):
            for number in range(20):
                submit(enter, number)
                wait_until(lambda number=number: lock.waiting == number + 2)  # type: ignore[misc]
        assert order == list(range(20))


def arrive_in_turn(barrier: Barrier, number: int) -> None:
    """Reach each barrier in every process. Process `n` waits for the lock, in a thread, after barrier `n`."""
    with threads(1) as submit:
        if number == 0:
            with ledgers.lock("l-1"):
                for turn in range(1, 11):
                    wait_until(lambda turn=turn: waiters() == turn - 1)  # type: ignore[misc]
                    barrier.wait()
                wait_until(lambda: waiters() == 10)
            return
        for turn in range(1, 11):
            barrier.wait()
            if turn == number:
                submit(annotate_under_lock, number)


class TestExclusion:
    def test_next_owner_sees_the_saved_events_and_readers_do_not_wait(self) -> None:
        held, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            with ledgers.lock("l-1") as ledger:
                ledger.annotate("first")
                held.set()
                assert go_on.wait(30)

        def follow() -> list[Any]:
            with ledgers.lock("l-1", timeout=30) as ledger:
                return list(ledger.notes)

        with threads(2) as submit:
            submit(hold)
            assert held.wait(30)
            follower = submit(follow)
            wait_until(lambda: waiters() == 1)
            assert ledgers.get("l-1").notes == []
            go_on.set()
            assert follower.result(30) == ["first"]

    @pytest.mark.requires_postgresql
    def test_other_streams_do_not_wait(self) -> None:
        ledgers.save(Ledger.open("l-2"))
        with ledgers.lock("l-1"), threads(1) as submit:
            submit(ledgers.execute, "l-2", lambda ledger: ledger.deposit(1)).result(10)

            def lock_other() -> None:
                with ledgers.lock("l-2", timeout=5) as ledger:
                    ledger.deposit(1)

            def lock_the_key_of_another_category() -> None:
                with store_for().lock(StreamId("other", "l-1"), 5):
                    pass

            submit(lock_other).result(10)
            submit(lock_the_key_of_another_category).result(10)
        assert ledgers.get("l-2").balance == 2

    @pytest.mark.parametrize("timeout", [0, 2_147_483, None])
    def test_free_lock_is_granted_at_once(self, timeout: float | None) -> None:
        with ledgers.lock("l-1", timeout=timeout) as ledger:
            ledger.deposit(1)
        assert ledgers.get("l-1").balance == 1

    def test_owner_may_lock_again_and_keeps_the_lock_until_the_outermost_block_ends(self) -> None:
        def wait_until_timeout() -> None:
            with pytest.raises(LockTimeout), ledgers.lock("l-1", timeout=0.05):
                raise AssertionError("the lock was granted")

        with ledgers.lock("l-1"), threads(1) as submit:
            with ledgers.lock("l-1", timeout=5) as again:
                again.deposit(1)
            submit(wait_until_timeout).result(10)
        with threads(1) as submit:
            submit(annotate_under_lock, "free").result(10)
        assert ledgers.get("l-1").balance == 1

    @pytest.mark.requires_sqlite
    def test_lock_in_a_transaction_does_not_wait_for_waiters_of_that_transaction(self) -> None:
        """On PostgreSQL, waiters are not blocked by a transaction that does not hold the lock."""
        stream = Ledger("l-1").stream

        with threads(2) as submit:
            with event_store.transaction():
                event_store.append(stream, [Annotated(note=0)], expected=ANY)
                first = submit(annotate_under_lock, 1)
                wait_until(lambda: tickets() == 1)
                second = submit(annotate_under_lock, 2)
                wait_until(lambda: tickets() == 2)
                with ledgers.lock("l-1", timeout=30) as ledger:
                    assert tickets() == 2
                    ledger.annotate("before both")
                with ledgers.lock("l-1") as ledger:
                    ledger.annotate("and again")
                assert not first.done()
            first.result(30)
            second.result(30)
        assert ledgers.get("l-1").notes == [0, "before both", "and again", 1, 2]


class TestTimeout:
    def test_waiting_ends_in_a_retryable_timeout(self) -> None:
        def wait_until_timeout() -> None:
            with pytest.raises(LockTimeout) as caught, ledgers.lock("l-1", timeout=0.05):
                raise AssertionError("the lock was granted")
            assert (caught.value.retryable, caught.value.timeout) == (True, 0.05)

        with ledgers.lock("l-1"), threads(1) as submit:
            submit(wait_until_timeout).result(10)
        with ledgers.lock("l-1", timeout=5) as ledger:
            ledger.deposit(1)
        assert ledgers.get("l-1").balance == 1

    @pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), 2_147_484, True, "5"], ids=repr)
    def test_invalid_timeouts_are_rejected(self, timeout: Any) -> None:
        with (
            pytest.raises(ValueError, match="timeout must be a number of seconds"),
            ledgers.lock("l-1", timeout=timeout),
        ):
            raise AssertionError("the lock was granted")

    @pytest.mark.requires_sqlite
    def test_lock_in_a_transaction_respects_the_timeouts_of_waiters(self) -> None:
        def wait_until_timeout() -> None:
            with pytest.raises(LockTimeout), ledgers.lock("l-1", timeout=0.05):
                raise AssertionError("the lock was granted")

        with threads(1) as submit, event_store.transaction(), ledgers.lock("l-1"):
            submit(wait_until_timeout).result(10)

    @pytest.mark.requires_postgresql
    def test_lock_timeout_of_the_connection_is_unchanged_afterwards(self) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '7s'")
            with ledgers.lock("l-1", timeout=1):
                pass
            cursor.execute("SHOW lock_timeout")
            assert cursor.fetchone() == ("7s",)
        with connection.cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            assert cursor.fetchone() == ("0",)

    def test_waiter_that_timed_out_releases_nothing(self) -> None:
        entered: list[str] = []

        def time_out() -> None:
            with pytest.raises(LockTimeout), ledgers.lock("l-1", timeout=0.05):
                entered.append("timed out")

        def wait_long() -> None:
            with ledgers.lock("l-1", timeout=30):
                entered.append("in turn")

        with threads(2) as submit:
            with ledgers.lock("l-1"):
                long = submit(wait_long)
                wait_until(lambda: waiters() == 1)
                submit(time_out).result(30)
                assert waiters() == 1
                assert entered == []
            long.result(30)
        assert entered == ["in turn"]


class TestRelease:
    def test_error_in_the_block_saves_nothing_and_releases(self) -> None:
        with pytest.raises(KeyError), ledgers.lock("l-1") as ledger:
            ledger.deposit(1)
            raise KeyError
        with pytest.raises(AggregateNotFound), ledgers.lock("missing"):
            raise AssertionError("the lock was granted")
        with threads(1) as submit:
            submit(annotate_under_lock, "free").result(10)
        assert ledgers.get("l-1").balance == 0

    def test_failed_load_releases(self) -> None:
        class Forgetful(Aggregate):
            """An aggregate without an @applies method, so it cannot be loaded from its events."""

        stream = StreamId("forgetful", "f-1")
        event_store.append(stream, [Annotated(note=1)], expected=0)
        with pytest.raises(UnappliedEvent), Repository(Forgetful).lock("f-1"):
            raise AssertionError("the aggregate was loaded")

        def lock_again() -> None:
            with store_for().lock(stream, 10):
                pass

        with threads(1) as submit:
            submit(lock_again).result(30)

    def test_failed_save_releases(self) -> None:
        with pytest.raises(ConcurrencyError), ledgers.lock("l-1") as ledger:
            event_store.append(ledger.stream, [Annotated(note=1)], expected=ANY)
            ledger.deposit(1)
        with threads(1) as submit:
            submit(annotate_under_lock, "free").result(30)
        assert ledgers.get("l-1").notes == ["free"]

    @pytest.mark.requires_postgresql
    def test_owner_whose_connection_is_cut_releases_and_saves_nothing(self) -> None:
        held, backends = threading.Event(), list[int]()
        cut = threading.Event()

        def hold() -> None:
            with pytest.raises(StorageError) as caught, ledgers.lock("l-1") as ledger:
                ledger.deposit(1)
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_backend_pid()")
                    backends.append(cursor.fetchone()[0])
                held.set()
                assert cut.wait(30)
            assert caught.value.retryable

        with threads(1) as submit:
            holder = submit(hold)
            assert held.wait(30)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", backends)
            with ledgers.lock("l-1", timeout=20) as ledger:
                assert ledger.balance == 0
            cut.set()
            holder.result(30)
        assert ledgers.get("l-1").balance == 0

    @pytest.mark.database_alone
    def test_killed_owner_releases(self) -> None:
        with pytest.raises(RuntimeError, match="exit code -9"):
            run_processes(hold_until_killed, [()])
        with ledgers.lock("l-1", timeout=20) as ledger:
            assert ledger.balance == 0


def hold_until_killed(barrier: Barrier) -> None:
    with ledgers.lock("l-1") as ledger:
        ledger.deposit(1)
        os.kill(os.getpid(), signal.SIGKILL)
