"""A store uses its own database only, and ignores what happens in the default one."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections, transaction
from pytest_django import DjangoAssertNumQueries

from es_django import (
    ANY,
    ConcurrencyError,
    Event,
    PendingEvent,
    Projection,
    RecordedEvent,
    Repository,
    StreamId,
    StreamWrite,
    projects,
)
from es_django.errors import DuplicateEvent
from es_django.models import InboxReceipt
from es_django.store.backends import store_for
from tests.domain import Deposited, Ledger, LedgerOpened
from tests.outbox.published import Announced

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def _other() -> Iterator[None]:
    """A second connection to the database of this run, with the alias "other"."""
    connections["other"] = connection.copy("other")
    yield
    connections["other"].close()
    del connections["other"]


others = Repository(Ledger, using="other")


class Shelved(Event):
    """An event that only the inline projection below follows."""


class Shelves(Projection):
    class Meta:
        name = "tests.shelves"

    @projects
    def shelved(self, event: Shelved, recorded: RecordedEvent) -> None:
        InboxReceipt.objects.create(consumer=self.name, message_id=recorded.stream.key, status="handled")


class TestOwnDatabase:
    @pytest.mark.usefixtures("_other")
    def test_every_query_goes_to_the_database_of_the_store(
        self, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        store, stream, events = others.store, Ledger("l-1").stream, [PendingEvent(Deposited(amount=Decimal(1)))]
        with django_assert_num_queries(0, connection=connection):
            for expected in (0, 0, ANY):
                store.append(stream, events, expected=expected)
            store.append_all(
                [StreamWrite(Ledger(key).stream, [Deposited(amount=Decimal(1))], ANY) for key in ("l-1", "l-2")]
            )
            with pytest.raises(ConcurrencyError):
                store.append(stream, [Deposited(amount=Decimal(1))], expected=0)
            assert store.version(stream) == len(list(store.read_stream(stream))) == 2
            assert len(store.read_all().events) == 3
            assert len(others.get_many(["l-1", "l-2"])) == 2
            assert store.contains(events[0].event_id)
            with others.lock("l-1") as ledger:
                ledger.deposit(1)
            store.archive(stream)

    @pytest.mark.usefixtures("_other")
    def test_transactions_belong_to_the_database_of_the_store(self) -> None:
        ledger = Ledger.open("l-1")
        with pytest.raises(KeyError), others.store.transaction():
            others.save(ledger)
            assert (others.store.in_transaction, store_for().in_transaction) == (True, False)
            raise KeyError
        assert (ledger.committed_version, others.exists("l-1")) == (0, False)
        others.save(ledger)
        with others.store.transaction():
            ledger.deposit(1)
            others.save(ledger)
        assert (ledger.committed_version, ledger.pending_events) == (2, [])

    @pytest.mark.requires_postgresql
    @pytest.mark.usefixtures("_other")
    def test_a_failed_append_marks_the_transaction_of_its_database_for_rollback(self) -> None:
        stored = PendingEvent(LedgerOpened(owner="Ada"))
        others.store.append(Ledger("l-1").stream, [stored], expected=0)
        with others.store.transaction():
            others.save(Ledger.open("l-2"))
            with pytest.raises(DuplicateEvent):
                others.store.append(Ledger("l-3").stream, [stored], expected=0)
        assert not others.exists("l-2")


class TestOtherDatabase:
    """A store on a database other than ES_DJANGO["DATABASE"] refuses messages and inline projections."""

    @pytest.mark.usefixtures("_other", "recorder")
    def test_messages_are_refused_because_the_relay_reads_the_default_database(self) -> None:
        with pytest.raises(ImproperlyConfigured, match=r"outbox messages can only be stored in .*, not 'other'"):
            others.store.append(Ledger("l-1").stream, [Announced(text="news")], expected=0)
        assert not others.exists("l-1")

    @pytest.mark.usefixtures("_other")
    def test_appends_of_events_with_an_inline_projection_are_refused(self) -> None:
        stream = StreamId("shelf", "s-1")
        for write in (
            StreamWrite(stream, [Shelved()], 0),
            StreamWrite(stream, [Deposited(amount=Decimal(1)), Shelved()], ANY),
        ):
            with (
                pytest.raises(ImproperlyConfigured, match=r"inline projections can only run in .*, not 'other'"),
                transaction.atomic(),
            ):
                others.store.append_all([write])
        assert (others.store.version(stream), InboxReceipt.objects.count()) == (0, 0)
        store_for().append(stream, [Shelved()], expected=0)
        assert InboxReceipt.objects.get().message_id == "s-1"
