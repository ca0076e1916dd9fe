"""A save writes all events or none, exactly one of several writers succeeds, and no event is stored twice."""

import inspect
import time
from concurrent.futures import wait
from contextlib import nullcontext
from decimal import Decimal
from functools import partial
from threading import Event
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.transaction import TransactionManagementError
from pytest_django import DjangoAssertNumQueries, DjangoCaptureOnCommitCallbacks

from es_django import (
    Aggregate,
    AggregateNotFound,
    ConcurrencyError,
    PendingEvent,
    Repository,
    StorageError,
    StreamId,
    StreamWrite,
    event_store,
)
from es_django.errors import DuplicateEvent, DuplicateStream, StreamArchived, is_retryable
from es_django.models import Stream
from es_django.store.backends import store_for
from es_django.store.base import EventStore
from tests.domain import Annotated, Deposited, Ledger, LedgerOpened
from tests.threads import threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("backend")]

ledgers = Repository(Ledger)


def versions(key: str) -> list[int]:
    return [recorded.version for recorded in ledgers.history(key)]


def terminate_once_waiting(backend: int) -> None:
    deadline = time.monotonic() + 30
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted", [backend])
            if cursor.fetchone() == (1,):
                break
            assert time.monotonic() < deadline, "the backend did not wait for a lock within the time limit"
            time.sleep(0.005)
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])


async def use_every_twin() -> None:
    ledger = Ledger.open("l-1")
    await ledgers.asave(ledger)
    await ledgers.asave_all([Ledger.open("l-2")])
    assert (await ledgers.aexecute("l-1", lambda ledger: ledger.deposit(5), command_id="c-1")).balance == 5
    assert (await ledgers.aget("l-1", version=1)).balance == 0
    assert list(await ledgers.aget_many(["l-1", "l-2"])) == ["l-1", "l-2"]
    assert await ledgers.aexists("l-1")
    assert [recorded.version for recorded in await ledgers.ahistory("l-1")] == [1, 2]
    stream = StreamId("ledger", "l-3")
    await event_store.aappend(stream, [Annotated(note=1)], expected=0)
    await event_store.aappend_all([StreamWrite(stream, [Annotated(note=2)], 1)])
    assert await event_store.aversion(stream) == 2
    assert [recorded.version for recorded in await event_store.aread_stream(stream, backwards=True)] == [2, 1]
    assert len((await event_store.aread_all(types=[Annotated])).events) == 2
    await event_store.aarchive(stream)
    with pytest.raises(StreamArchived):
        await event_store.aappend(stream, [Annotated(note=3)], expected=2)


FOR_THE_PACKAGE_ALONE = {"send", "load", "load_many", "contains", "lock", "safe_end", "commit_tracker", "transaction"}
WITHOUT_TWINS = {Repository: {"lock"}, EventStore: FOR_THE_PACKAGE_ALONE}


TWINS = [
    (cls, name)
    for cls in (Repository, EventStore)
    for name, member in vars(cls).items()
    if inspect.iscoroutinefunction(member)
]


def lose_the_reply(patch: pytest.MonkeyPatch) -> None:
    """From now on, break the connection after the server has committed and before the client gets the reply."""

    commit, execute = connection._commit, CursorWrapper.execute  # type: ignore[attr-defined]

    def commit_and_break() -> None:
        commit()
        raise OperationalError("the connection is lost")

    def execute_and_break(cursor: CursorWrapper, *args: Any) -> None:
        execute(cursor, *args)
        # On PostgreSQL, a statement in autocommit is its own commit. On SQLite it is the BEGIN of a transaction.
        if connection.get_autocommit() and connection.vendor == "postgresql":
            raise OperationalError("the connection is lost")

    patch.setattr(connection, "_commit", commit_and_break)
    patch.setattr(CursorWrapper, "execute", execute_and_break)


class TestSave:
    def test_cycles_of_load_and_save_store_each_event_once(self) -> None:
        ledgers.save(Ledger.open("l-1"))
        for amount in (5, 7):
            ledger = ledgers.get("l-1")
            ledger.deposit(amount)
            ledgers.save(ledger)
            assert (ledger.version, ledger.committed_version, ledger.pending_events) == (
                ledger.version,
                ledger.version,
                [],
            )
        assert ledgers.get("l-1").balance == Decimal(12)
        assert versions("l-1") == [1, 2, 3]

    def test_events_of_two_aggregates_that_are_saved_in_turns_stay_separate(self) -> None:
        ledgers.save_all([Ledger.open("cart", owner="Ada"), Ledger.open("stock", owner="Bob")])
        for key, amount in (("cart", 5), ("stock", 7)):
            ledger = ledgers.get(key)
            ledger.deposit(amount)
            ledgers.save(ledger)
        found = ledgers.get_many(["cart", "stock", "missing"])
        assert {key: (ledger.owner, ledger.balance) for key, ledger in found.items()} == {
            "cart": ("Ada", Decimal(5)),
            "stock": ("Bob", Decimal(7)),
        }
        assert (versions("cart"), versions("stock")) == ([1, 2], [1, 2])

    def test_aggregates_that_are_saved_together_can_be_loaded_together(self) -> None:
        ledgers.save(Ledger.open("other"))
        ledgers.save_all([Ledger.open("a"), Ledger.open("b")])
        assert list(ledgers.get_many(["b", "a", "missing", "b"])) == ["b", "a"]

    def test_a_saved_object_can_be_saved_again(self) -> None:
        ledger = Ledger.open("l-1")
        ledgers.save(ledger)
        ledger.deposit(5)
        ledgers.save(ledger)
        ledgers.save(ledger)
        assert versions("l-1") == [1, 2]

    def test_an_event_that_is_rejected_after_a_save_leaves_the_state_unchanged(self) -> None:
        ledger = Ledger.open("l-1")
        for _ in range(2):
            ledger.deposit(5)
            ledgers.save(ledger)
        with pytest.raises(ValueError, match="refused after"):
            ledger.annotate("refused")
        assert (ledger.owner, ledger.balance, ledger.notes) == ("Ada", Decimal(10), [])

    def test_a_save_without_pending_events_writes_nothing(self) -> None:
        ledgers.save(Ledger("l-1"))
        assert not ledgers.exists("l-1")
        assert event_store.read_all().events == []

    def test_a_thousand_events_in_one_save_keep_their_order(self) -> None:
        ledger = Ledger.open("l-1")
        for number in range(1, 1000):
            ledger.annotate(number)
        ledgers.save(ledger)
        recorded = list(ledgers.history("l-1"))
        assert [each.version for each in recorded] == list(range(1, 1001))
        assert recorded[0].event == LedgerOpened(owner="Ada")
        for index in (98, 99, 100, 998, 999):
            assert recorded[index].event == Annotated(note=index)
        assert ledgers.get("l-1").notes == list(range(1, 1000))
        positions = [each.position for each in recorded]
        assert positions == sorted(positions)

    def test_events_recorded_while_a_save_is_in_flight_stay_pending(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ledger = Ledger.open("l-1")
        store = store_for()
        append_all = store.append_all

        def record_meanwhile(*args: Any, **kwargs: Any) -> Any:
            result = append_all(*args, **kwargs)
            ledger.deposit(5)
            return result

        monkeypatch.setattr(store, "append_all", record_meanwhile)
        ledgers.save(ledger)
        monkeypatch.undo()
        assert (ledger.committed_version, ledger.pending_events) == (1, [Deposited(amount=Decimal(5))])
        ledgers.save(ledger)
        assert versions("l-1") == [1, 2]

    def test_an_aggregate_of_another_class_is_an_error_and_nothing_is_written(self) -> None:
        class Other(Aggregate):
            pass

        with pytest.raises(TypeError, match="is not of class Ledger"):
            ledgers.save_all([Ledger.open("l-1"), Other("o-1")])  # type: ignore[list-item]
        assert not ledgers.exists("l-1")


class TestLoad:
    def test_an_aggregate_without_events_is_not_found(self) -> None:
        with pytest.raises(AggregateNotFound, match="'ledger' 'l-1' has no events"):
            ledgers.get("l-1")

    def test_an_aggregate_is_loaded_as_it_was_at_an_earlier_version(self) -> None:
        ledger = Ledger.open("l-1")
        ledger.deposit(5)
        ledger.deposit(7)
        ledgers.save(ledger)
        earlier = ledgers.get("l-1", version=2)
        assert (earlier.balance, earlier.version) == (Decimal(5), 2)
        for version in (0, 4):
            with pytest.raises(AggregateNotFound):
                ledgers.get("l-1", version=version)


class TestConflict:
    def test_a_stale_save_is_a_conflict_and_its_events_stay_pending(self) -> None:
        ledgers.save(Ledger.open("l-1"))
        first, second = ledgers.get("l-1"), ledgers.get("l-1")
        first.deposit(5)
        second.deposit(7)
        ledgers.save(first)
        with pytest.raises(ConcurrencyError) as caught:
            ledgers.save(second)
        assert (caught.value.stream, caught.value.expected, caught.value.actual) == (StreamId("ledger", "l-1"), 1, 2)
        assert caught.value.retryable
        assert (second.committed_version, len(second.pending_events)) == (1, 1)
        assert versions("l-1") == [1, 2]

    def test_a_conflict_leaves_the_callers_transaction_usable(self) -> None:
        ledgers.save(Ledger.open("l-1"))
        with event_store.transaction():
            with pytest.raises(ConcurrencyError):
                ledgers.save(Ledger.open("l-1"))
            ledgers.save(Ledger.open("l-2"))
        assert (versions("l-1"), versions("l-2")) == ([1], [1])


class TestSaveAll:
    def test_several_aggregates_are_saved_all_or_none(self) -> None:
        ledgers.save(Ledger.open("z-stale"))
        stale, new = ledgers.get("z-stale"), Ledger.open("a-new")
        ledgers.execute("z-stale", lambda ledger: ledger.deposit(1))
        stale.deposit(2)
        for pair in ([stale, new], [new, stale]):
            with pytest.raises(ConcurrencyError):
                ledgers.save_all(pair)
            assert not ledgers.exists("a-new")
            assert (new.committed_version, len(new.pending_events)) == (0, 1)
            assert (stale.committed_version, len(stale.pending_events)) == (1, 1)
        ledgers.save_all([new, Ledger.open("b-new")])
        assert (versions("a-new"), versions("b-new")) == ([1], [1])

    def test_a_stream_given_twice_in_one_call_is_an_error_and_nothing_is_written(self) -> None:
        with pytest.raises(DuplicateStream):
            ledgers.save_all([Ledger.open("l-1"), Ledger.open("l-1")])
        assert event_store.read_all().events == []


class TestRollback:
    """Events of a transaction or savepoint that is rolled back are pending again."""

    def test_events_are_pending_again_after_a_rollback(self) -> None:
        ledger = Ledger.open("l-1")
        with pytest.raises(KeyError), event_store.transaction():
            ledgers.save(ledger)
            assert (ledger.committed_version, ledger.pending_events) == (1, [])
            raise KeyError
        assert (ledger.committed_version, len(ledger.pending_events)) == (0, 1)
        ledgers.save(ledger)
        assert versions("l-1") == [1]

    def test_a_rollback_does_not_affect_another_writer(self) -> None:
        with threads(1) as submit:
            with pytest.raises(KeyError), event_store.transaction():
                ledgers.save(Ledger.open("mine"))
                other = submit(ledgers.save, Ledger.open("theirs"))
                # the other writer still waits afterwards, unless the store allows concurrent writers
                wait([other], timeout=0.2)
                raise KeyError
            other.result(30)
        assert (ledgers.exists("mine"), ledgers.exists("theirs")) == (False, True)

    def test_only_events_of_the_savepoint_are_pending_again_after_its_rollback(self) -> None:
        ledger = Ledger.open("l-1")
        with event_store.transaction():
            ledgers.save(ledger)
            with pytest.raises(KeyError), event_store.transaction():
                ledger.deposit(5)
                ledgers.save(ledger)
                with event_store.transaction():
                    ledger.deposit(6)
                    ledgers.save(ledger)
                raise KeyError
            assert (ledger.committed_version, len(ledger.pending_events)) == (1, 2)
            ledgers.save(ledger)
        assert (ledger.committed_version, ledger.pending_events) == (3, [])
        assert versions("l-1") == [1, 2, 3]

    @pytest.mark.database_alone
    @pytest.mark.parametrize("inner", [False, True], ids=["in a transaction", "in a savepoint"])
    def test_a_failed_write_of_the_caller_rolls_back_the_events(self, inner: bool) -> None:
        ledgers.save(Ledger.open("taken"))
        ledger = Ledger.open("l-1")
        with transaction.atomic() if inner else nullcontext():
            with pytest.raises(IntegrityError), transaction.atomic():
                ledgers.save(ledger)
                Stream.objects.create(category="ledger", key="taken", version=0)
            assert not ledgers.exists("l-1")
            assert (ledger.committed_version, len(ledger.pending_events)) == (0, 1)
            if inner:
                ledgers.save(ledger)
        ledgers.save(ledger)
        assert versions("l-1") == [1]

    def test_events_recorded_after_a_save_are_pending_after_its_commit(self) -> None:
        ledgers.save(Ledger.open("l-1"))
        ledger = ledgers.get("l-1")
        with event_store.transaction():
            ledger.deposit(1)
            ledgers.save(ledger)
            ledger.deposit(2)
            ledger.deposit(3)
        assert ledger.pending_events == [Deposited(amount=Decimal(2)), Deposited(amount=Decimal(3))]
        assert (ledger.committed_version, ledger.version) == (2, 4)
        ledgers.save(ledger)
        assert versions("l-1") == [1, 2, 3, 4]

    @pytest.mark.database_alone
    @pytest.mark.parametrize("inner", [False, True], ids=["in a transaction", "in a savepoint"])
    def test_a_failing_on_commit_callback_of_the_caller_is_not_taken_for_a_rollback(self, inner: bool) -> None:
        ledger = Ledger.open("l-1")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            transaction.on_commit(lambda: 1 / 0)
            with transaction.atomic() if inner else nullcontext():
                ledgers.save(ledger)
                ledger.deposit(5)
                ledgers.save(ledger)
            with pytest.raises(KeyError), transaction.atomic():
                ledger.deposit(7)
                ledgers.save(ledger)
                raise KeyError
        assert (ledger.committed_version, ledger.pending_events) == (2, [Deposited(amount=Decimal(7))])
        ledgers.save(ledger)
        assert versions("l-1") == [1, 2, 3]

    @pytest.mark.database_alone
    @pytest.mark.django_db
    def test_a_save_keeps_the_order_of_the_callbacks_that_a_test_captures(
        self,
        django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    ) -> None:
        called: list[str] = []
        for key in ("l-1", "l-2"):
            with django_capture_on_commit_callbacks(execute=True):
                transaction.on_commit(partial(called.append, key))
                ledgers.save(Ledger.open(key))
        assert called == ["l-1", "l-2"]

    @pytest.mark.database_alone
    @pytest.mark.requires_postgresql
    def test_events_in_a_transaction_that_an_error_broke_are_pending_again(self) -> None:
        ledger, stored = Ledger.open("l-1"), PendingEvent(LedgerOpened(owner="Ada"))
        event_store.append(StreamId("ledger", "other"), [stored], expected=0)
        with transaction.atomic():
            ledgers.save(ledger)
            with pytest.raises(DuplicateEvent):
                event_store.append(StreamId("ledger", "l-2"), [stored], expected=0)
            with pytest.raises(TransactionManagementError):
                Stream.objects.exists()
        assert (ledger.committed_version, len(ledger.pending_events)) == (0, 1)
        ledgers.save(ledger)
        assert versions("l-1") == [1]


class TestLostConnection:
    @pytest.mark.requires_postgresql
    @pytest.mark.database_alone
    def test_a_terminated_connection_is_a_retryable_error_and_nothing_is_written(self) -> None:
        ledger = Ledger.open("l-1")
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (backend,) = cursor.fetchone()

        def terminate() -> None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])

        with threads(1) as submit:
            submit(terminate).result()
        with pytest.raises(StorageError) as caught:
            ledgers.save(ledger)
        assert caught.value.retryable
        connection.close()
        assert not ledgers.exists("l-1")
        ledgers.save(ledger)
        assert versions("l-1") == [1]

    @pytest.mark.requires_postgresql
    @pytest.mark.database_alone
    def test_a_connection_that_is_terminated_during_a_save_writes_nothing(self) -> None:
        ledgers.save(Ledger.open("l-1"))
        connected, backends = Event(), list[int]()

        def save_and_wait_for_the_stream() -> Ledger:
            ledger = ledgers.get("l-1")
            ledger.deposit(5)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                backends.append(cursor.fetchone()[0])
            connected.set()
            with pytest.raises(StorageError) as caught:
                ledgers.save(ledger)
            assert caught.value.retryable
            return ledger

        with threads(1) as submit, transaction.atomic():
            ledgers.execute("l-1", lambda ledger: ledger.deposit(7))
            saving = submit(save_and_wait_for_the_stream)
            assert connected.wait(30)
            terminate_once_waiting(backends[0])
            ledger = saving.result(30)
        assert versions("l-1") == [1, 2]
        assert ledgers.get("l-1").balance == 7
        assert (ledger.committed_version, len(ledger.pending_events)) == (1, 1)

    @pytest.mark.database_alone
    @pytest.mark.parametrize("outer", [False, True])
    def test_a_save_can_be_repeated_after_the_reply_to_its_commit_was_lost(
        self, outer: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger = Ledger.open("l-1")
        ledger.deposit(5)
        with monkeypatch.context() as patch:
            lose_the_reply(patch)
            with (
                pytest.raises((StorageError, OperationalError)) as caught,
                transaction.atomic() if outer else nullcontext(),
            ):
                ledgers.save(ledger)
        assert is_retryable(caught.value)
        connection.close()
        assert versions("l-1") == [1, 2], "the server has committed"
        assert (ledger.committed_version, len(ledger.pending_events)) == (0, 2)
        ledgers.save(ledger)
        assert (ledger.committed_version, ledger.pending_events) == (2, [])
        assert versions("l-1") == [1, 2]


class TestRoundTrips:
    @pytest.mark.requires_postgresql
    @pytest.mark.database_alone
    def test_an_append_and_a_load_are_one_statement_each(
        self, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        ledger = Ledger.open("l-1")
        ledger.deposit(1)
        with django_assert_num_queries(1):
            ledgers.save(ledger)
        with django_assert_num_queries(1):
            ledgers.get("l-1")
        with event_store.transaction(), django_assert_num_queries(1):
            ledger.deposit(1)
            ledgers.save(ledger)

    @pytest.mark.database_alone
    def test_many_aggregates_are_loaded_in_one_query(self, django_assert_num_queries: DjangoAssertNumQueries) -> None:
        for key in ("a", "b", "c"):
            ledgers.save(Ledger.open(key, owner=key))
            ledgers.execute(key, lambda ledger: ledger.deposit(5))
        with django_assert_num_queries(1):
            found = ledgers.get_many(["c", "missing", "a", "c"])
        assert {key: (each.key, each.owner, each.version) for key, each in found.items()} == {
            "a": ("a", "a", 2),
            "c": ("c", "c", 2),
        }
        assert ledgers.get_many([]) == {}


class TestAsynchronousTwins:
    def test_every_asynchronous_twin_works(self) -> None:
        async_to_sync(use_every_twin)()

    @pytest.mark.parametrize("cls", WITHOUT_TWINS)
    def test_every_public_method_has_an_asynchronous_twin(self, cls: type) -> None:
        methods = {name for name, member in vars(cls).items() if inspect.isfunction(member) and name[0] != "_"}
        twins = {name for name in methods if inspect.iscoroutinefunction(getattr(cls, name))}
        assert methods - twins - {name[1:] for name in twins} == WITHOUT_TWINS[cls]

    @pytest.mark.parametrize(("cls", "name"), TWINS)
    def test_an_asynchronous_twin_passes_its_arguments_to_the_method(
        self, cls: type, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        owner = ledgers if cls is Repository else store_for()
        twin, method = (inspect.signature(getattr(owner, each)) for each in (name, name[1:]))
        assert twin.parameters == method.parameters
        given = {parameter: object() for parameter in method.parameters}
        results = [object()]

        def take(*args: Any, **kwargs: Any) -> list[object]:
            assert method.bind(*args, **kwargs).arguments == given
            return results

        monkeypatch.setattr(owner, name[1:], take)
        call = twin.bind(**given)
        result = async_to_sync(getattr(owner, name))(*call.args, **call.kwargs)
        assert result == (None if method.return_annotation is None else results)
