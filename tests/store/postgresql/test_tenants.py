"""Schemas of one database do not affect each other: each has its own log, locks, projections and messages."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.backends.postgresql.base import DatabaseWrapper

from es_django import ANY, NO_STREAM, Event, Repository, StreamId, event_store, outbox
from es_django.models import OutboxMessage
from es_django.monitoring.health import status
from es_django.outbox import heartbeat
from es_django.outbox.backends import _database_outbox
from es_django.outbox.relay import relay
from es_django.store.backends import store_for
from es_django.store.database import DatabaseEventStore
from es_django.store.postgresql import sql
from es_django.store.postgresql.sequences import POSITION_BITS
from tests.domain import Ledger
from tests.publishers import Recorder
from tests.tenants import in_schema, schemas
from tests.threads import threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requires_postgresql]

STREAM = StreamId("tenants", "1")
ledgers = Repository(Ledger)


class Rented(Event):
    who: str

    class Meta:
        name = "tenants.rented"


@pytest.fixture(autouse=True)
def _tenants() -> Iterator[None]:
    with schemas("tenant_a", "tenant_b"):
        yield


def append(who: str, key: str = "1") -> None:
    event_store.append(StreamId("tenants", key), [Rented(who=who)], expected=ANY)


def names() -> list[str]:
    return [recorded.event.who for recorded in event_store.read_all().events if isinstance(recorded.event, Rented)]


@contextmanager
def in_other_thread(schema: str, work: Callable[[], Any]) -> Iterator[Callable[[], None]]:
    """Run `work` in an open transaction of a second session. Yield a function that commits the transaction."""
    done, go_on = threading.Event(), threading.Event()

    def run() -> None:
        with in_schema(schema), transaction.atomic():
            work()
            done.set()
            assert go_on.wait(30)

    with threads(1) as submit:
        running = submit(run)
        try:
            while not done.wait(0.05):
                if running.done():
                    running.result()

            def commit() -> None:
                go_on.set()
                running.result(30)

            yield commit
        finally:
            go_on.set()


class TestLog:
    def test_fault_a2_an_open_append_holds_back_only_the_log_of_its_own_schema(self) -> None:
        with in_other_thread("tenant_b", lambda: append("b open")), in_schema("tenant_a"):
            append("a")
            assert names() == ["a"]
            assert status().log.held_back.count == 0
            assert status().log.newest == 1

    def test_fault_a2_one_transaction_may_append_in_two_schemas(self) -> None:
        def in_both() -> None:
            append("a open")
            with in_schema("tenant_b"):
                append("b open")

        with in_schema("tenant_a"):
            for number in range(5):  # so that the positions of the schemas differ
                append("a before", key=f"before {number}")
        with in_other_thread("tenant_a", in_both) as commit:
            for schema in ("tenant_a", "tenant_b"):
                with in_schema(schema):
                    append(f"{schema} later", key="2")
                    assert names() == ["a before"] * (5 if schema == "tenant_a" else 0)
            commit()
        for schema in ("tenant_a", "tenant_b"):
            with in_schema(schema):
                assert names()[-2:] == [f"{schema[-1]} open", f"{schema} later"]

    def test_fault_a2_an_append_after_a_rolled_back_savepoint_limits_the_log_of_its_schema(self) -> None:
        def undo_and_append() -> None:
            append("a open")
            with pytest.raises(KeyError), transaction.atomic(), in_schema("tenant_b"):
                append("undone")
                raise KeyError
            with in_schema("tenant_b"):
                append("b open")

        with in_schema("tenant_a"):
            for number in range(5):
                append("a before", key=f"before {number}")
        with in_other_thread("tenant_a", undo_and_append) as commit, in_schema("tenant_b"):
            append("b later", key="2")
            assert names() == []
            commit()
            assert names() == ["b open", "b later"]

    def test_fault_a2_a_floor_of_another_table_with_the_same_namespace_does_not_limit_the_log(self) -> None:
        def hold_the_floor_of_a() -> None:
            append("b open")
            with connection.cursor() as cursor, in_schema("tenant_a"):
                cursor.execute(f"SELECT pg_advisory_xact_lock_shared({sql.LOCK_NAMESPACE} << {POSITION_BITS})")

        with in_other_thread("tenant_b", hold_the_floor_of_a), in_schema("tenant_a"):
            append("a")
            assert names() == ["a"]


class TestSwitches:
    @pytest.mark.parametrize("in_transaction", [False, True])
    def test_fault_a2_statements_follow_the_search_path(self, in_transaction: bool) -> None:
        def work() -> None:
            for number in range(1, 4):
                for schema in ("tenant_a", "tenant_b"):
                    with in_schema(schema):
                        version = number - 1
                        event_store.append(STREAM, [Rented(who=schema)], expected=version or NO_STREAM)
                        assert event_store.version(STREAM) == number
                        assert {str(each.event) for each in event_store.read_stream(STREAM)} == {
                            str(Rented(who=schema))
                        }
                        assert names() == [schema] * number
                        tail = [event for _, events in event_store.load(STREAM).tail for event in events]
                        assert len(tail) == number

        if in_transaction:
            with transaction.atomic():
                work()
        else:
            work()
        assert event_store.version(STREAM) == 0


class TenantBackend(DatabaseWrapper):
    """Sets the search_path when a cursor is opened, and not before, as django-tenants does."""

    schema = "public"

    def _cursor(self, name: str | None = None) -> Any:
        cursor = super()._cursor(name)  # type: ignore[misc]
        cursor.execute("SELECT set_config('search_path', %s, false)", [self.schema])
        return cursor


@pytest.fixture
def tenant_backend() -> Iterator[TenantBackend]:
    """Replace the connection of this thread by one of the tenants' backend."""
    before = connections["default"]
    backend = TenantBackend(before.settings_dict, "default")
    connections["default"] = backend
    _database_outbox.cache_clear()
    try:
        yield backend
    finally:
        backend.close()
        connections["default"] = before
        _database_outbox.cache_clear()


class TestLazySwitches:
    @pytest.mark.parametrize("in_transaction", [False, True])
    def test_fault_a2_a_backend_that_switches_with_the_next_cursor_never_uses_another_schema(
        self, in_transaction: bool, tenant_backend: TenantBackend
    ) -> None:
        with transaction.atomic() if in_transaction else nullcontext():
            for number in range(1, 4):
                for schema in ("tenant_a", "tenant_b"):
                    tenant_backend.schema = schema
                    append(schema)
                    tenant_backend.schema = "tenant_b" if schema == "tenant_a" else "tenant_a"
                    event_store.version(STREAM)
                    tenant_backend.schema = schema
                    assert names() == [schema] * number
        for schema in ("tenant_a", "tenant_b"):
            tenant_backend.schema = schema
            assert event_store.version(STREAM) == 3

    def test_fault_a2_a_relay_of_such_a_backend_uses_one_thread(
        self, recorder: type[Recorder], settings: Any, tenant_backend: TenantBackend
    ) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"BATCH_SIZE": 110}}
        tenant_backend.schema = "tenant_a"
        for _ in range(250):
            outbox.send("tests", type="tenants.sent", data={})
        assert relay() == 250
        tenant_backend.schema = "tenant_b"
        assert relay() == 0


class TestLocks:
    def test_fault_a2_a_stream_with_the_same_name_in_another_schema_has_a_lock_of_its_own(self) -> None:
        def hold() -> None:
            ledgers.save(Ledger.open("l-1"))
            with ledgers.lock("l-1", timeout=5):
                pass  # the lock lasts until the transaction ends

        with in_other_thread("tenant_b", hold), in_schema("tenant_a"):
            ledgers.save(Ledger.open("l-1"))
            with ledgers.lock("l-1", timeout=0.2) as ledger:
                ledger.deposit(1)

    def test_fault_a2_a_rebuild_holds_only_the_appends_of_its_own_schema(self) -> None:
        store = store_for()
        assert isinstance(store, DatabaseEventStore)
        take = f"SELECT pg_advisory_xact_lock_shared({sql.INLINE_PROJECTIONS_LOCK})"
        with (
            in_other_thread("tenant_b", store.hold_inline_projections),
            in_schema("tenant_a"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute("SET LOCAL lock_timeout = '200ms'")
            cursor.execute(take)


class TestRelay:
    @pytest.mark.parametrize("count", [1, 250])
    def test_fault_a2_every_thread_of_a_relay_uses_the_schema_of_the_relay(
        self, count: int, recorder: type[Recorder], settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"BATCH_SIZE": 110, "LEASE": 0.3}}
        renewed = threading.Event()
        renew = heartbeat.Heartbeat._renew

        def observed(self: heartbeat.Heartbeat) -> None:
            renew(self)
            renewed.set()
            assert self._held

        def publish_after_a_renewal(self: Recorder, messages: Any) -> Any:
            renewed.wait(20)
            return publish(self, messages)

        publish = Recorder.publish
        monkeypatch.setattr(heartbeat.Heartbeat, "_renew", observed)
        monkeypatch.setattr(Recorder, "publish", publish_after_a_renewal)
        with in_schema("tenant_b"):
            outbox.send("tests", type="tenants.other", data={})
        with in_schema("tenant_a"):
            for _ in range(count):
                outbox.send("tests", type="tenants.sent", data={})
            assert relay(seconds=30) == count
            assert not OutboxMessage.objects.exclude(status="published").exists()
        with in_schema("tenant_b"):
            assert OutboxMessage.objects.get().status == "pending"
