"""Every error can be pickled, states its facts in one sentence, and says whether a retry can succeed."""

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
from es_django.core.streams import NAME_RULE, StreamId
from es_django.errors import EsDjangoError, is_retryable
from es_django.store.error_translation import storage_errors

STREAM = StreamId("ledger", "l-1")
REPLAY = (STREAM, 7, "Deposited", "because")


class PoolTimeout(psycopg.OperationalError):
    """An exception with the name of psycopg_pool's error. The tests do not need psycopg_pool."""


def from_driver(kind: type[Exception], cause: Exception) -> Exception:
    error = kind(str(cause))
    error.__cause__ = cause
    return error


def with_sqlstate(sqlstate: str) -> Exception:
    return from_driver(django.db.DatabaseError, psycopg.errors.lookup(sqlstate)("judged by its code"))


def from_sqlite(code: int) -> Exception:
    cause = sqlite3.OperationalError("judged by its code")
    cause.sqlite_errorcode = code
    return from_driver(django.db.OperationalError, cause)


RETRYABLE: list[Exception] = [
    errors.ConcurrencyError(STREAM, 1, 2),
    errors.LockTimeout(STREAM, 5.0),
    errors.LeaseTaken("rebuild"),
    errors.LeaseLost("rebuild"),
    errors.StorageError("append", True),
    errors.ProjectionTimeout("balances", 7, 5.0, "status: running, position 6"),
    errors.PublishError("not known"),
    errors.DestinationRefuses("401"),
    errors.DestinationUnreachable("refused"),
    *map(with_sqlstate, ["08000", "08001", "08003", "08004", "08006", "08P01"]),
    *map(with_sqlstate, ["40001", "40P01", "53000", "53100", "53200", "53300", "53400", "55P03"]),
    *map(with_sqlstate, ["25006", "57014", "57P01", "57P02", "57P03"]),
    from_driver(django.db.OperationalError, PoolTimeout("no connection came free")),
    errors.HandlerRetry("later"),
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
    errors.AggregateNotFound(STREAM),
    errors.AggregateExists(STREAM, 0, 2),
    errors.AlreadyAppended([]),
    errors.StorageError("append", False),
    errors.TooManyLocks(STREAM, 1000),
    errors.LogOutOfOrder("read the log", False, "the sequence is behind"),
    errors.ReplayError(*REPLAY),
    errors.UnknownEventType(*REPLAY),
    errors.UnsupportedEventVersion(*REPLAY),
    errors.MissingUpcaster(*REPLAY),
    errors.UpcastError(*REPLAY),
    errors.UndecodableEvent(*REPLAY),
    errors.UnappliedEvent(*REPLAY),
    errors.DefinitionError("Order: give it a name"),
    errors.InvalidStreamId("key", "", NAME_RULE),
    errors.DuplicateStream(STREAM),
    errors.DuplicateMessage([UUID(int=1)]),
    errors.DuplicateEvent([UUID(int=1)]),
    errors.ClaimLost(UUID(int=1), "worker"),
    errors.HandlerRejected("never"),
    errors.InvalidCloudEvent("it has no id"),
    errors.BatchTooLarge(8000, 100),
    errors.NotReplayable("mailer", "1", "it is handled"),
    errors.PublishError("never", retryable=False),
    errors.PayloadError("Deposited", "amount", "nan is not a JSON number"),
    errors.UnknownDestination("ledger", []),
    errors.StreamArchived(STREAM),
    errors.UnknownProjection("balance", ["balances"]),
    errors.ProjectionStatusError("balances", "paused", "it is paused"),
    errors.PartitionsChanged("balances", 1, 4),
    errors.ModeChanged("balances"),
    errors.AppendInReplay(STREAM),
    *map(with_sqlstate, ["23502", "23503", "23505", "23514", "22001", "22P02", "25P02", "42P01", "42501"]),
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


EXPORTED = {error for error in vars(errors).values() if isinstance(error, type)}
OWN_ERRORS = [error for error in RETRYABLE + PERMANENT if isinstance(error, EsDjangoError)]


def _subclasses(error: type[EsDjangoError]) -> list[type[EsDjangoError]]:
    return [each for sub in error.__subclasses__() for each in (sub, *_subclasses(sub))]


class TestRetryability:
    @pytest.mark.parametrize("error", RETRYABLE, ids=_name)
    def test_errors_that_a_retry_can_solve_are_retryable(self, error: Exception) -> None:
        assert is_retryable(error)

    @pytest.mark.parametrize("error", PERMANENT, ids=_name)
    def test_errors_that_a_retry_cannot_solve_are_not_retryable(self, error: Exception) -> None:
        assert not is_retryable(error)

    def test_the_lists_above_contain_every_error(self) -> None:
        assert EXPORTED - {EsDjangoError} == {type(error) for error in OWN_ERRORS}

    def test_es_django_errors_exports_every_error(self) -> None:
        defined = {error for error in _subclasses(EsDjangoError) if error.__module__.startswith("es_django.")}
        assert defined <= EXPORTED


class TestPickling:
    @pytest.mark.parametrize("error", OWN_ERRORS, ids=_name)
    def test_an_unpickled_error_is_equal(self, error: EsDjangoError) -> None:
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.args, str(copy), copy.retryable, vars(copy)) == (
            type(error),
            error.args,
            str(error),
            error.retryable,
            vars(error),
        )

    def test_an_error_that_was_made_with_keywords_can_be_pickled(self) -> None:
        error = errors.StorageError(operation="append", retryable=True)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
        assert error.args == ("append", True, "")

    def test_the_reason_of_a_publish_error_is_text(self) -> None:
        error = errors.PublishError(ConnectionError("refused"), retryable=False)
        assert (error.reason, error.args, str(error)) == ("refused", ("refused",), "refused")


class TestStorageErrors:
    @pytest.mark.parametrize("failure", DRIVER_ERRORS, ids=_name)
    def test_a_driver_error_becomes_a_storage_error_with_its_cause(self, failure: Exception) -> None:
        with pytest.raises(errors.StorageError) as caught, storage_errors("append", connection):
            raise failure
        assert (caught.value.operation, caught.value.retryable) == ("append", failure in RETRYABLE)
        assert caught.value.__cause__ is failure.__cause__
        advice = "retryable" if failure in RETRYABLE else "not retryable"
        assert str(caught.value).startswith(f"the database failed to append ({advice}): ")

    def test_other_exceptions_are_raised_unchanged(self) -> None:
        with pytest.raises(KeyError), storage_errors("append", connection):
            raise KeyError


class TestMessages:
    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (
                errors.ConcurrencyError(STREAM, 1, 2),
                "stream 'ledger' 'l-1' is at version 2, expected 1. "
                "The stream changed concurrently: reload the aggregate and retry",
            ),
            (
                errors.UnknownEventType(*REPLAY),
                "event 7 of stream 'ledger' 'l-1' (Deposited) cannot be replayed: because",
            ),
            (errors.AggregateNotFound(STREAM, 3), "stream 'ledger' 'l-1' has no version 3"),
            (errors.LockTimeout(STREAM, 5.0), "stream 'ledger' 'l-1' is still locked by another writer after 5 s"),
            (errors.LeaseTaken("rebuild"), "lease 'rebuild' is held by another owner"),
            (
                errors.PayloadError("Deposited", "amount", "expected int, got str"),
                "Deposited.amount: expected int, got str",
            ),
            (errors.PayloadError("Deposited", "", "nested too deeply"), "Deposited: nested too deeply"),
            (
                errors.ProjectionTimeout("balances", 7, 1.0, "status: running, position 6"),
                "projection 'balances' did not reach position 7 within 1 s (status: running, position 6). "
                "Is a worker running?",
            ),
        ],
        ids=_name,
    )
    def test_an_error_states_its_facts_and_the_remedy(self, error: EsDjangoError, message: str) -> None:
        assert str(error) == message
