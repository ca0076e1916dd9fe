"""Every error says truthfully whether trying again can help."""

import pickle
import socket
import sqlite3
from urllib.error import URLError
from uuid import UUID

import amqp.exceptions
import django.db
import kombu.exceptions
import psycopg
import pytest
import redis.exceptions
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection

from es_django import errors
from es_django.core.streams import StreamId
from es_django.errors import EsDjangoError, is_retryable
from es_django.store.error_translation import storage_errors

STREAM = StreamId("ledger", "l-1")
REPLAY = (STREAM, 7, "Deposited", "because")


class PoolTimeout(psycopg.OperationalError):
    """As the one of psycopg_pool, which is not needed here for its name alone."""


def from_driver(kind: type[Exception], cause: Exception) -> Exception:
    error = kind(str(cause))
    error.__cause__ = cause
    return error


def with_sqlstate(sqlstate: str) -> Exception:
    return from_driver(django.db.DatabaseError, psycopg.errors.lookup(sqlstate)("told by its code"))


def from_sqlite(code: int) -> Exception:
    cause = sqlite3.OperationalError("told by its code")
    cause.sqlite_errorcode = code
    return from_driver(django.db.OperationalError, cause)


RETRYABLE: list[Exception] = [
    errors.ConcurrencyError(STREAM, 1, 2),
    errors.AggregateNotFound(STREAM),
    errors.LockTimeout(STREAM, 5.0),
    errors.LeaseTaken("rebuild"),
    errors.LeaseLost("rebuild"),
    errors.StorageError("append", True),
    errors.ProjectionTimeout("balances", 7, 5.0, "is running, at position 6"),
    errors.PublishError("not known"),
    errors.DestinationUnreachable("refused"),
    *map(with_sqlstate, ["08000", "08001", "08003", "08004", "08006", "08P01"]),
    *map(with_sqlstate, ["40001", "40P01", "53000", "53100", "53200", "53300", "53400", "55P03"]),
    *map(with_sqlstate, ["57P01", "57P02", "57P03"]),
    from_driver(django.db.OperationalError, PoolTimeout("no connection came free")),
    errors.HandlerInterrupted("SystemExit(1)"),
    from_driver(django.db.OperationalError, psycopg.OperationalError("the connection is lost")),
    from_driver(django.db.InterfaceError, psycopg.InterfaceError("the connection is closed")),
    psycopg.OperationalError("the connection is lost"),
    *map(from_sqlite, [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_BUSY_SNAPSHOT]),
    kombu.exceptions.OperationalError("the broker is down"),
    ConnectionResetError(),
    TimeoutError(),
    socket.gaierror(),
    URLError(ConnectionRefusedError()),
    amqp.exceptions.RecoverableConnectionError(),
    amqp.exceptions.ConnectionForced(),
    redis.exceptions.ConnectionError(),
    redis.exceptions.TimeoutError(),
    SoftTimeLimitExceeded(),
]

PERMANENT: list[Exception] = [
    errors.StorageError("append", False),
    errors.ReplayError(*REPLAY),
    errors.UnknownEventType(*REPLAY),
    errors.UnsupportedEventVersion(*REPLAY),
    errors.MissingUpcaster(*REPLAY),
    errors.UpcastError(*REPLAY),
    errors.UndecodableEvent(*REPLAY),
    errors.UnappliedEvent(*REPLAY),
    errors.InvalidStreamId("key", "", "must not be blank"),
    errors.DuplicateStream(STREAM),
    errors.DuplicateMessage([UUID(int=1)]),
    errors.DuplicateEvent([UUID(int=1)]),
    errors.ClaimLost(UUID(int=1), "worker"),
    errors.HandlerRejected("never"),
    errors.InvalidCloudEvent("it has no id"),
    errors.NotReplayable("mailer", "1", "it is handled"),
    errors.PublishError("never", retryable=False),
    errors.PayloadError("Deposited", "amount", "is nan"),
    errors.UnknownDestination("ledger", []),
    errors.StreamArchived(STREAM),
    errors.UnknownProjection("balance", ["balances"]),
    errors.ProjectionStatusError("balances", "paused", "it is paused"),
    errors.PartitionsChanged("balances", 1, 4),
    errors.ModeChanged("balances"),
    errors.AppendInReplay(STREAM),
    *map(with_sqlstate, ["23502", "23503", "23505", "23514", "22001", "22P02", "25P02", "42P01", "42501", "57014"]),
    from_sqlite(sqlite3.SQLITE_CONSTRAINT),
    from_sqlite(sqlite3.SQLITE_ERROR),
    from_driver(django.db.ProgrammingError, psycopg.ProgrammingError("a placeholder too many")),
    psycopg.ProgrammingError("a placeholder too many"),
    FileNotFoundError(),
    PermissionError(),
    ValueError(),
    KeyError(),
]


DRIVER_ERRORS = [error for error in RETRYABLE + PERMANENT if isinstance(error, django.db.Error)]


def _name(error: object) -> str:
    code = getattr(getattr(error, "__cause__", None), "sqlstate", None)
    return f"{type(error).__name__} {code or ''}"


@pytest.mark.parametrize("error", RETRYABLE, ids=_name)
def test_trying_again_can_help(error: Exception) -> None:
    assert is_retryable(error)


@pytest.mark.parametrize("error", PERMANENT, ids=_name)
def test_trying_again_cannot_help(error: Exception) -> None:
    assert not is_retryable(error)


@pytest.mark.parametrize(
    "error", [each for each in RETRYABLE + PERMANENT if isinstance(each, EsDjangoError)], ids=_name
)
def test_an_error_survives_the_way_to_another_process(error: EsDjangoError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.retryable, vars(copy)) == (
        type(error),
        str(error),
        error.retryable,
        vars(error),
    )


@pytest.mark.parametrize("failure", DRIVER_ERRORS, ids=_name)
def test_what_a_driver_raises_becomes_a_storage_error_with_its_cause(failure: Exception) -> None:
    with pytest.raises(errors.StorageError) as caught, storage_errors("append", connection):
        raise failure
    assert (caught.value.operation, caught.value.retryable) == ("append", failure in RETRYABLE)
    assert caught.value.__cause__ is failure.__cause__
    advice = "trying again can help" if failure in RETRYABLE else "trying again cannot help"
    assert str(caught.value).startswith(f"the database failed to append ({advice}): ")


def test_what_is_no_failure_of_the_database_is_left_as_it_is() -> None:
    with pytest.raises(KeyError), storage_errors("append", connection):
        raise KeyError


def test_every_error_writes_a_sentence_from_its_facts() -> None:
    assert str(errors.ConcurrencyError(STREAM, 1, 2)).startswith(
        "stream 'ledger' 'l-1' is at version 2, expected was 1"
    )
    assert str(errors.UnknownEventType(*REPLAY)) == (
        "event 7 of stream 'ledger' 'l-1' (Deposited) cannot be replayed: because"
    )
    assert str(errors.AggregateNotFound(STREAM, 3)) == "stream 'ledger' 'l-1' has no events up to version 3"


def _all(kind: type[EsDjangoError]) -> list[type[EsDjangoError]]:
    return [kind, *(each for sub in kind.__subclasses__() for each in _all(sub))]


def test_no_error_is_left_out_here() -> None:
    seen = {type(error) for error in RETRYABLE + PERMANENT}
    kinds = {kind for kind in _all(EsDjangoError) if kind.__module__ == "es_django.errors"}
    assert kinds - {EsDjangoError} <= seen
