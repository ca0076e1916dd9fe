"""A store is that of its own database alone, whatever happens in the default one."""

from collections.abc import Iterator

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from pytest_django import DjangoAssertNumQueries

from es_django import ANY, ConcurrencyError, PendingEvent, Repository, StreamWrite
from es_django.errors import DuplicateEvent
from es_django.store import store_for
from tests.domain import Annotated, Ledger, LedgerOpened
from tests.outbox.published import Told

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def _other() -> Iterator[None]:
    """A second connection, by the name of "other", to the database of this run."""
    connections["other"] = connection.copy("other")
    yield
    connections["other"].close()
    del connections["other"]


others = Repository(Ledger, using="other")


@pytest.mark.usefixtures("_other")
def test_it_asks_its_own_database_alone(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    store, stream, events = others.store, Ledger("l-1").stream, [PendingEvent(Annotated(note=1))]
    with django_assert_num_queries(0, connection=connection):
        for expected in (0, 0, ANY):
            store.append(stream, events, expected=expected)
        store.append_all([StreamWrite(Ledger(key).stream, [Annotated(note=1)], ANY) for key in ("l-1", "l-2")])
        with pytest.raises(ConcurrencyError):
            store.append(stream, [Annotated(note=1)], expected=0)
        assert store.version(stream) == len(list(store.read_stream(stream))) == 2
        assert len(store.read_all().events) == 3
        assert len(others.get_many(["l-1", "l-2"])) == 2
        assert store.contains(events[0].event_id)
        with others.lock("l-1") as ledger:
            ledger.deposit(1)
        store.archive(stream)


@pytest.mark.usefixtures("_other")
def test_its_transactions_are_those_of_its_own_database() -> None:
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
def test_a_failed_append_dooms_the_transaction_of_its_own_database() -> None:
    stored = PendingEvent(LedgerOpened(owner="Ada"))
    others.store.append(Ledger("l-1").stream, [stored], expected=0)
    with others.store.transaction():
        others.save(Ledger.open("l-2"))
        with pytest.raises(DuplicateEvent):
            others.store.append(Ledger("l-3").stream, [stored], expected=0)
    assert not others.exists("l-2")


@pytest.mark.usefixtures("_other", "recorder")
def test_it_takes_no_message_that_the_relay_of_the_default_database_would_not_find() -> None:
    with pytest.raises(ImproperlyConfigured, match="would never be published"):
        others.store.append(Ledger("l-1").stream, [Told(text="news")], expected=0)
    assert not others.exists("l-1")
