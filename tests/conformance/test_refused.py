"""Every write and read raises `StorageError` when the connection cannot be opened, with and without DEBUG."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import uuid4

import pytest
from django.db import connection
from pytest_django import Settings

from es_django import ANY, Repository, StorageError, event_store, outbox
from es_django.core.streams import StreamId
from es_django.inbox.receipts import prune_receipts
from es_django.outbox.relay import relay
from es_django.outbox.retention import prune_messages
from es_django.projections import pause, run_projections
from tests.domain import Deposited, Ledger

# Django never closes the connection to a database in memory, so on SQLite nothing opens a connection.
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("recorder"),
    pytest.mark.requires_postgresql,
]

STREAM = StreamId("ledger", "l-1")
ledgers = Repository(Ledger)

CALLS: dict[str, Callable[[], Any]] = {
    "append": lambda: event_store.append(STREAM, [Deposited(amount=Decimal(1))], expected=ANY),
    "send": lambda: outbox.send("tests", type="noted", data=None),
    "read_stream": lambda: list(event_store.read_stream(STREAM)),
    "read_all": event_store.read_all,
    "version": lambda: event_store.version(STREAM),
    "contains": lambda: event_store.contains(uuid4()),
    "archive": lambda: event_store.archive(STREAM),
    "load": lambda: ledgers.get("l-1"),
    "execute": lambda: ledgers.execute("l-1", lambda ledger: None),
    "relay": lambda: relay("tests"),
    "run_projections": run_projections,
    "pause": lambda: pause("statements", by="Ada"),
    "prune_messages": lambda: prune_messages(timedelta(days=1)),
    "prune_receipts": lambda: prune_receipts(timedelta(days=1)),
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_fault_b7_a_refused_connection_is_a_retryable_storage_error(
    call: Callable[[], Any], debug: bool, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.DEBUG = debug

    def refuse(*args: object) -> None:
        raise cast("Any", connection).Database.OperationalError("connection refused")

    connection.close()
    with monkeypatch.context() as patch:
        patch.setattr(connection, "get_new_connection", refuse)
        with pytest.raises(StorageError, match="refused") as caught:
            call()
    assert caught.value.retryable
