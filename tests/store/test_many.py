"""No statement grows with its input, and the number of locks in one transaction is bounded."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from es_django import ANY, NO_STREAM, Event, PendingEvent, Repository, StreamId, event_store, outbox
from es_django.audit import Audit
from es_django.core import chunks
from es_django.errors import TooManyLocks
from es_django.models import OutboxMessage
from es_django.monitoring.health import status
from es_django.outbox.backends import outbox_store
from es_django.outbox.relay import relay
from es_django.outbox.states import Transition
from es_django.store import writes
from es_django.store.backends import store_for
from es_django.store.base import EventStore
from tests.domain import Ledger
from tests.publishers import Recorder

MANY = 66_000
"""More than the 65,535 parameters that PostgreSQL accepts in a statement."""

ledgers = Repository(Ledger)


class Many(Event):
    class Meta:
        name = "many.many"


@pytest.fixture(params=["client", "server"])
def _binding(request: pytest.FixtureRequest) -> Iterator[None]:
    """Bind parameters on the client, Django's default, and on the server."""
    if connection.vendor != "postgresql" or request.param == "client":
        yield
        return
    options = connection.settings_dict["OPTIONS"]
    connection.close()
    options["server_side_binding"] = True
    try:
        yield
    finally:
        connection.close()
        del options["server_side_binding"]


@pytest.fixture
def store() -> EventStore:
    return store_for()


@pytest.mark.usefixtures("_binding")
@pytest.mark.django_db(transaction=True)
class TestStatements:
    def test_fault_c5_many_keys_are_loaded(self) -> None:
        ledgers.save_all([Ledger.open("first"), Ledger.open("last")])
        keys = ["first", *map(str, range(MANY)), "last"]
        assert list(ledgers.get_many(keys)) == ["first", "last"]

    def test_fault_c5_many_event_ids_are_looked_up(self, store: EventStore) -> None:
        stored = PendingEvent(Many())
        event_store.append(StreamId("many", "1"), [stored], expected=NO_STREAM)
        ids = [UUID(int=number) for number in range(MANY)]
        assert store._find_events([*ids, stored.event_id]) == [(StreamId("many", "1"), 1, stored.event_id)]

    def test_fault_c5_many_categories_and_types_are_read(self) -> None:
        event_store.append(StreamId("many", "1"), [Many()], expected=NO_STREAM)
        assert len(event_store.read_all(categories=[*map(str, range(MANY)), "many"], types=[Many]).events) == 1

    def test_fault_c5_many_messages_change_their_status(self, recorder: type[Recorder]) -> None:
        sent = outbox.send("tests", type="many.sent", data={})
        assert outbox.discard([*(UUID(int=number) for number in range(MANY)), sent], by="ada") == [sent]
        assert outbox_store().change_status([uuid4() for _ in range(10)], Transition.DISCARD) == []

    def test_fault_c5_everything_works_with_either_binding(self, recorder: type[Recorder]) -> None:
        ledgers.save(Ledger.open("l-1"))
        with ledgers.lock("l-1", timeout=5) as ledger:
            ledger.deposit(1)
        events = [PendingEvent(Many()) for _ in range(3)]
        for _ in range(2):
            event_store.append(StreamId("many", "1"), events, expected=ANY)
        outbox.send("tests", type="many.sent", data={}, key="k")
        assert relay() == 1
        assert OutboxMessage.objects.get().status == "published"
        assert len(event_store.read_all(categories=["many", "ledger"]).events) == 5
        assert status().problems == []
        assert list(Audit().findings()) == []


@pytest.mark.django_db
class TestChunks:
    def test_fault_c5_statements_have_a_bounded_number_of_parameters(
        self, store: EventStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ids = [uuid4() for _ in range(10)]
        monkeypatch.setattr(chunks, "CHUNK", 4)
        with CaptureQueriesContext(connection) as captured:
            store._find_events(ids)
            store.load_many("many", list(map(str, range(10))))
        assert len(captured) == 6

    def test_fault_c5_keys_that_fit_one_statement_need_only_one(self, store: EventStore) -> None:
        with CaptureQueriesContext(connection) as captured:
            store.load_many("many", list(map(str, range(500))))
        assert len(captured) == 1


@pytest.mark.requires_postgresql
@pytest.mark.django_db(transaction=True)
class TestLocks:
    @pytest.fixture(autouse=True)
    def _few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from es_django.store.postgresql import store

        monkeypatch.setattr(store, "MAX_STREAM_LOCKS", 5)

    def lock(self, *keys: int) -> None:
        for key in keys:
            with event_store.lock(StreamId("many", str(key)), 1):
                pass  # the lock lasts until the transaction ends

    def test_fault_c5_a_transaction_may_lock_a_limited_number_of_streams(self) -> None:
        with transaction.atomic():
            self.lock(*range(5))
            with pytest.raises(TooManyLocks, match="the locks of 5 streams") as caught:
                self.lock(5)
            assert not caught.value.retryable
            self.lock(*range(5))  # the transaction is usable, and holds these locks already
            event_store.append(StreamId("many", "1"), [Many()], expected=ANY)
        self.lock(*range(10))
        assert event_store.version(StreamId("many", "1")) == 1

    def test_fault_c5_locks_of_a_rolled_back_savepoint_do_not_count(self) -> None:
        with transaction.atomic():
            for first in range(0, 12, 3):
                with pytest.raises(KeyError), transaction.atomic():
                    self.lock(first, first + 1, first + 2)
                    raise KeyError
            self.lock(*range(5))

    def test_fault_c5_appends_to_many_streams_take_one_lock(self) -> None:
        streams = [writes.StreamWrite(StreamId("many", str(key)), [Many()], NO_STREAM) for key in range(20)]
        with transaction.atomic(), connection.cursor() as cursor:
            event_store.append_all(streams)
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
            assert cursor.fetchone() == (1,)
