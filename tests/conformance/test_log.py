"""A reader of the log sees every event once, with the events of each stream in order."""

import random
import time
from collections import defaultdict
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from threading import Event as Signal
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction

from es_django import ANY, RecordedEvent, Repository, StorageError, StreamId, event_store
from es_django.errors import EsDjangoError
from es_django.models import StoredEvent
from es_django.store.postgresql import sql as postgresql
from es_django.store.reads import Partition
from tests.domain import Annotated, Ledger
from tests.processes import run_processes
from tests.threads import threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("backend")]

ledgers = Repository(Ledger)

WRITERS = 12
TRANSACTIONS = 40


def keys_up_to(position: int = 0) -> list[str]:
    return [recorded.stream.key for recorded in event_store.read_all(after=position).events]


def append_and_wait(key: str, appended: Signal, go_on: Signal, *, undo: bool = False) -> None:
    """Append in a transaction that stays open until `go_on` is set."""
    with transaction.atomic():
        try:
            with transaction.atomic():
                ledgers.save(Ledger.open(key))
                appended.set()
                if undo:
                    raise KeyError
        except KeyError:
            pass
        assert go_on.wait(30)


def draw_no_position_yet() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER SEQUENCE es_django_event_position_seq RESTART")


def write_at_random(barrier: Barrier, writer: int) -> int:
    chance = random.Random(writer)
    barrier.wait()
    kept = 0
    for number in range(TRANSACTIONS):
        stream = StreamId("log", f"s-{chance.randrange(6)}")
        try:
            with transaction.atomic():
                time.sleep(chance.random() * 0.01)
                written = chance.randrange(1, 4)
                event_store.append(stream, [Annotated(note=[writer, number, i]) for i in range(written)], expected=ANY)
                if chance.random() < 0.2:
                    try:
                        with transaction.atomic():
                            event_store.append(stream, [Annotated(note="undone")], expected=ANY)
                            raise KeyError
                    except KeyError:
                        pass
                time.sleep(chance.random() * 0.01)
                if chance.random() < 0.1:
                    raise KeyError
                kept += written
        except KeyError:
            pass
        except EsDjangoError as error:
            if not error.retryable:
                raise
    return kept


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "the condition did not become true within the time limit"
        time.sleep(0.01)


class TestAppendsInFlight:
    """The log ends before the first event that may still be committed."""

    @pytest.mark.requires_postgresql
    def test_a_reader_of_an_empty_log_does_not_skip_the_very_first_event(self) -> None:
        draw_no_position_yet()
        page = event_store.read_all()
        ledgers.save(Ledger.open("first"))
        assert keys_up_to(page.position) == ["first"]

    @pytest.mark.requires_postgresql
    @pytest.mark.parametrize("first_ever", [True, False])
    def test_the_log_ends_before_the_first_append_in_flight(self, first_ever: bool) -> None:
        draw_no_position_yet()
        if not first_ever:
            ledgers.save(Ledger.open("before"))
        before = [] if first_ever else ["before"]
        appended, go_on = Signal(), Signal()
        with threads(1) as submit:
            slow = submit(append_and_wait, "slow", appended, go_on)
            assert appended.wait(30)
            ledgers.save(Ledger.open("fast"))
            page = event_store.read_all()
            assert [recorded.stream.key for recorded in page.events] == before
            go_on.set()
            slow.result(30)
        assert keys_up_to(page.position) == ["slow", "fast"]

    @pytest.mark.requires_postgresql
    def test_the_first_of_several_appends_in_flight_limits_the_log(self) -> None:
        signals = [(key, Signal(), Signal()) for key in ("slow", "slow too")]
        with threads(2) as submit:
            for key, appended, go_on in signals:
                submit(append_and_wait, key, appended, go_on)
                assert appended.wait(30)
            ledgers.save(Ledger.open("fast"))
            page = event_store.read_all()
            for *_, go_on in signals:
                go_on.set()
        assert page.events == []
        assert keys_up_to(page.position) == ["slow", "slow too", "fast"]

    @pytest.mark.requires_postgresql
    def test_appends_that_start_while_the_safe_end_is_read_are_not_skipped(self) -> None:
        appended, go_on = Signal(), Signal()
        looked_up: list[str] = []

        with threads(2) as submit:

            def append_after_the_first_look(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
                result = execute(sql, *rest)
                if not looked_up:
                    looked_up.append(sql)
                    submit(append_and_wait, "slow", appended, go_on)
                    assert appended.wait(30)
                    submit(ledgers.save, Ledger.open("fast")).result(30)
                return result

            with connection.execute_wrapper(append_after_the_first_look):
                page = event_store.read_all()
            go_on.set()
        seen = [recorded.stream.key for recorded in page.events]
        assert seen + keys_up_to(page.position) == ["slow", "fast"]

    @pytest.mark.database_alone
    def test_an_append_that_commits_after_the_safe_end_was_read_is_on_the_next_page(self) -> None:
        ledgers.save(Ledger.open("before"))
        looked_up: list[str] = []

        with threads(1) as submit:

            def append_after_the_first_look(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
                result = execute(sql, *rest)
                if not looked_up:
                    looked_up.append(sql)
                    submit(ledgers.save, Ledger.open("fast")).result(30)
                return result

            with connection.execute_wrapper(append_after_the_first_look):
                page = event_store.read_all()
        assert [recorded.stream.key for recorded in page.events] == ["before"]
        assert keys_up_to(page.position) == ["fast"]

    @pytest.mark.database_alone
    @pytest.mark.slow
    def test_every_event_of_concurrent_writers_is_read_once_and_in_order(self) -> None:
        seen: list[RecordedEvent] = []
        with threads(1) as submit:
            writers = submit(run_processes, write_at_random, [(writer,) for writer in range(WRITERS)])
            position, rounds_after_the_end = 0, 0
            while rounds_after_the_end < 2:
                rounds_after_the_end += writers.done()
                page = event_store.read_all(after=position, limit=50)
                while page.events:
                    seen.extend(page.events)
                    position = page.position
                    page = event_store.read_all(after=position, limit=50)
            kept = sum(writers.result())
        assert [each.position for each in seen] == list(
            StoredEvent.objects.order_by("position").values_list("position", flat=True)
        )
        assert len(seen) == kept
        assert kept > WRITERS * TRANSACTIONS
        streams = defaultdict(list)
        for each in seen:
            streams[each.stream].append(each.version)
        assert all(versions == list(range(1, len(versions) + 1)) for versions in streams.values())


class TestFloorLock:
    """On PostgreSQL, the advisory lock of an append in flight holds back the safe end of the log."""

    @pytest.mark.requires_postgresql
    def test_each_transaction_of_a_connection_takes_its_own_lock(self) -> None:
        appended, go_on = Signal(), Signal()

        def append_twice() -> None:
            with transaction.atomic():
                ledgers.save(Ledger.open("done"))
            append_and_wait("slow", appended, go_on)

        with threads(1) as submit:
            slow = submit(append_twice)
            assert appended.wait(30)
            ledgers.save(Ledger.open("fast"))
            assert keys_up_to() == ["done"]
            go_on.set()
            slow.result(30)
        assert keys_up_to() == ["done", "slow", "fast"]

    @pytest.mark.requires_postgresql
    def test_a_transaction_with_many_appends_takes_one_lock(self) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            for key in ("a", "b", "c"):
                ledgers.save(Ledger.open(key))
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
            assert cursor.fetchone() == (1,)

    @pytest.mark.requires_postgresql
    def test_a_savepoint_that_was_rolled_back_does_not_hold_back_the_safe_end(self) -> None:
        appended, go_on = Signal(), Signal()
        with threads(1) as submit:
            slow = submit(lambda: append_and_wait("undone", appended, go_on, undo=True))
            assert appended.wait(30)
            ledgers.save(Ledger.open("fast"))
            try:
                _wait_until(lambda: keys_up_to() == ["fast"])
            finally:
                go_on.set()
            slow.result(30)

    @pytest.mark.requires_postgresql
    def test_an_append_after_a_rolled_back_savepoint_limits_the_log_again(self) -> None:
        appended, go_on = Signal(), Signal()

        def undo_and_append() -> None:
            with transaction.atomic():
                with pytest.raises(KeyError), transaction.atomic():
                    ledgers.save(Ledger.open("undone"))
                    raise KeyError
                ledgers.save(Ledger.open("kept"))
                appended.set()
                assert go_on.wait(30)

        with threads(1) as submit:
            slow = submit(undo_and_append)
            assert appended.wait(30)
            ledgers.save(Ledger.open("fast"))
            assert keys_up_to() == []
            go_on.set()
            slow.result(30)
        assert keys_up_to() == ["kept", "fast"]

    @pytest.mark.requires_postgresql
    def test_a_long_transaction_without_appends_does_not_limit_the_log(self) -> None:
        written, go_on = Signal(), Signal()

        def write_elsewhere() -> None:
            with transaction.atomic():
                ContentType.objects.create(app_label="tests", model="long")
                written.set()
                assert go_on.wait(30)

        with threads(1) as submit:
            slow = submit(write_elsewhere)
            assert written.wait(30)
            ledgers.save(Ledger.open("fast"))
            assert keys_up_to() == ["fast"]
            go_on.set()
            slow.result(30)

    @pytest.mark.requires_postgresql
    @pytest.mark.parametrize(
        "lock",
        [
            "pg_advisory_xact_lock_shared(0)",
            f"pg_advisory_xact_lock_shared(({postgresql.LOCK_NAMESPACE} << 15)::int, 0)",
            f"pg_advisory_xact_lock_shared({postgresql.LOCK_NAMESPACE} << 47)",
        ],
        ids=["one number", "two numbers", "the namespace of a floor, but no append"],
    )
    def test_an_unrelated_advisory_lock_does_not_limit_the_log(self, lock: str) -> None:
        locked, go_on = Signal(), Signal()

        def hold() -> None:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SELECT " + lock)
                locked.set()
                assert go_on.wait(30)

        with threads(1) as submit:
            holder = submit(hold)
            assert locked.wait(30)
            ledgers.save(Ledger.open("fast"))
            assert keys_up_to() == ["fast"]
            go_on.set()
            holder.result(30)


class TestSafeEnd:
    @pytest.mark.requires_postgresql
    @pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
    def test_reading_the_log_at_a_stricter_isolation_level_is_an_error(self, isolation: str) -> None:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL " + isolation)
            with pytest.raises(StorageError, match=f"skipped in a {isolation.lower()} transaction") as caught:
                event_store.read_all()
            assert not caught.value.retryable

    @pytest.mark.requires_postgresql
    def test_fault_b1_reading_the_log_on_a_replica_is_retryable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        as_replica = postgresql.END_OF_LOG.replace("pg_is_in_recovery()", "true")
        monkeypatch.setattr(postgresql, "END_OF_LOG", as_replica)
        with pytest.raises(StorageError, match="a replica does not know which appends are in flight") as caught:
            event_store.read_all()
        assert caught.value.retryable

    def test_the_log_ends_at_the_safe_end(self) -> None:
        def end() -> int:
            safe_end = event_store.safe_end()
            assert safe_end == event_store.read_all(categories=["none"]).position
            return safe_end

        # the log is empty, but its end may be greater than 0: earlier tests may have used the first positions
        first = end()
        ledgers.save(Ledger.open("l-1"))
        before = end()
        assert before > first
        with event_store.transaction(), threads(1) as submit:
            ledgers.save(Ledger.open("l-2"))
            own, of_others = end(), submit(end).result(30)
            assert own > before == of_others
        assert end() == own


class TestTransaction:
    def test_a_transaction_sees_its_own_events(self) -> None:
        with event_store.transaction():
            ledgers.save(Ledger.open("own"))
            assert keys_up_to() == ["own"]
            ledgers.save(Ledger.open("own too"))
            assert keys_up_to() == ["own", "own too"]

    def test_other_threads_do_not_see_the_events_of_an_open_transaction(self) -> None:
        stream = Ledger("l-1").stream

        def seen() -> tuple[int, int, int]:
            return len(keys_up_to()), event_store.version(stream), len(list(event_store.read_stream(stream)))

        with threads(1) as submit:
            with event_store.transaction():
                ledgers.save(Ledger.open("l-1"))
                assert submit(seen).result(30) == (0, 0, 0)
            assert submit(seen).result(30) == (1, 1, 1)


class TestPartitions:
    def test_each_stream_is_in_one_partition_in_order(self) -> None:
        streams = [StreamId("log", f"s-{number}") for number in range(24)]
        for _ in range(3):
            for stream in streams:
                event_store.append(stream, [Annotated(note=None)], expected=ANY)
        found: list[StreamId] = []
        for number in range(3):
            events = event_store.read_all(partition=Partition(number, 3)).events
            versions = defaultdict(list)
            for each in events:
                versions[each.stream].append(each.version)
            assert set(map(tuple, versions.values())) == {(1, 2, 3)}
            found += versions
        assert sorted(found) == sorted(streams)

    @pytest.mark.parametrize(("number", "count"), [(3, 3), (-1, 3), (0, 0)])
    def test_a_partition_number_out_of_range_is_an_error(self, number: int, count: int) -> None:
        with pytest.raises(ValueError, match=f"at least 0 and less than the count, got number {number} of {count}"):
            Partition(number, count)
