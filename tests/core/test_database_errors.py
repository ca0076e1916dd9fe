"""Every error code of PostgreSQL and SQLite has a decision: whether a retry can succeed, the reason, and the remedy."""

import sqlite3

import django.db
import psycopg
import pytest
from psycopg import errors as postgresql

from es_django.core.database_errors import BY_SQLITE_CODE, BY_SQLSTATE, BY_SQLSTATE_CLASS, decision_on
from es_django.errors import is_retryable

SQLSTATES = sorted(
    kind.sqlstate
    for kind in vars(postgresql).values()
    if isinstance(kind, type) and issubclass(kind, psycopg.Error) and isinstance(kind.sqlstate, str)
)
"""The list of PostgreSQL's manual, as psycopg has it."""

CLASSES_OF_THE_MANUAL = {
    *("00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21"),
    *("22", "23", "24", "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D"),
    *("3F", "40", "42", "44", "53", "54", "55", "57", "58", "72", "F0", "HV", "P0", "XX"),
}

KINDS_OF_SQLITE = (
    *("OK", "ERROR", "INTERNAL", "PERM", "ABORT", "BUSY", "LOCKED", "NOMEM", "READONLY", "INTERRUPT", "IOERR"),
    *("CORRUPT", "NOTFOUND", "FULL", "CANTOPEN", "PROTOCOL", "EMPTY", "SCHEMA", "TOOBIG", "CONSTRAINT", "MISMATCH"),
    *("MISUSE", "NOLFS", "AUTH", "FORMAT", "RANGE", "NOTADB", "NOTICE", "WARNING"),
)
SQLITE_CODES = {name: getattr(sqlite3, f"SQLITE_{name}") for name in KINDS_OF_SQLITE}

RETRYABLE = {
    *("08000", "08001", "08003", "08004", "08006", "08P01", "25006", "25P03", "25P04", "40001", "40P01", "40003"),
    *("53000", "53100", "53200", "53300", "53400", "55P03", "55006", "57000", "57014", "57P01", "57P02", "57P03"),
    *("57P04", "57P05", "58000", "58030", "72000", "XX000"),
}
FINAL = {
    *("0A000", "21000", "22001", "23505", "25001", "25P02", "26000", "28000", "28P01", "34000", "3D000", "3F000"),
    *("40002", "42501", "42601", "42703", "42P01", "42P05", "54000", "55000", "58P01", "F0000", "P0001"),
    *("XX001", "XX002"),
}


def _from_postgresql(sqlstate: str, text: str = "nur auf Deutsch") -> Exception:
    error = django.db.DatabaseError(text)
    error.__cause__ = postgresql.lookup(sqlstate)(text)
    return error


def _from_sqlite(code: int, text: str = "judged by its code") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


class TestPostgresql:
    def test_fault_b1_every_class_of_the_manual_is_decided(self) -> None:
        known = {each[:2] for each in SQLSTATES}
        assert len(SQLSTATES) > 200
        assert CLASSES_OF_THE_MANUAL | known == set(BY_SQLSTATE_CLASS)

    def test_fault_b1_every_exception_is_one_that_the_manual_lists(self) -> None:
        assert set(BY_SQLSTATE) <= {*SQLSTATES, "57P05", "25P04"}

    @pytest.mark.parametrize("sqlstate", SQLSTATES)
    def test_fault_b1_each_code_has_a_decision_with_a_reason(self, sqlstate: str) -> None:
        decision = decision_on(postgresql.lookup(sqlstate)("whatever"))
        assert decision is not None
        assert decision.reason

    @pytest.mark.parametrize("sqlstate", sorted(RETRYABLE - {"57P05", "25P04"}))
    def test_fault_b1_a_code_of_the_moment_is_retryable_in_any_language(self, sqlstate: str) -> None:
        assert is_retryable(_from_postgresql(sqlstate))

    @pytest.mark.parametrize("sqlstate", ["57P05", "25P04"])
    def test_fault_b1_codes_that_an_old_psycopg_does_not_know_are_decided(self, sqlstate: str) -> None:
        error = psycopg.OperationalError("the session has ended")
        error.sqlstate = sqlstate
        assert is_retryable(error)

    @pytest.mark.parametrize("sqlstate", sorted(FINAL))
    def test_fault_b1_a_wrong_statement_or_set_up_is_not_retryable(self, sqlstate: str) -> None:
        assert not is_retryable(_from_postgresql(sqlstate))

    @pytest.mark.parametrize("sqlstate", ["28P01", "28000", "3D000", "3F000", "42501", "42P01", "26000", "34000"])
    def test_fault_b1_a_wrong_set_up_has_a_remedy(self, sqlstate: str) -> None:
        decision = decision_on(postgresql.lookup(sqlstate)("nur auf Deutsch"))
        assert decision is not None
        assert decision.remedy

    def test_fault_b1_a_pooler_in_statement_mode_is_a_wrong_set_up(self) -> None:
        error = _from_postgresql("08P01", "transaction blocks not allowed in statement pooling mode")
        decision = decision_on(error.__cause__ or error)
        assert decision is not None
        assert not is_retryable(error)
        assert "pool_mode" in decision.remedy


class TestSqlite:
    def test_fault_b1_the_list_has_every_primary_code_of_the_module(self) -> None:
        known = {code for name, code in vars(sqlite3).items() if name.startswith("SQLITE_") and isinstance(code, int)}
        assert known >= set(SQLITE_CODES.values())

    @pytest.mark.parametrize("code", SQLITE_CODES.values(), ids=SQLITE_CODES)
    def test_fault_b1_every_primary_code_is_decided(self, code: int) -> None:
        assert BY_SQLITE_CODE[code].reason

    @pytest.mark.parametrize(
        "name",
        [
            *("ABORT", "BUSY", "LOCKED", "NOMEM", "INTERRUPT", "IOERR", "FULL", "CANTOPEN", "PROTOCOL", "SCHEMA"),
            *("BUSY_SNAPSHOT", "BUSY_RECOVERY", "LOCKED_SHAREDCACHE", "IOERR_WRITE", "IOERR_FSYNC", "IOERR_READ"),
            *("IOERR_SHORT_READ", "IOERR_LOCK", "CANTOPEN_FULLPATH", "READONLY_DBMOVED", "READONLY_RECOVERY"),
            *("READONLY_ROLLBACK", "ERROR_RETRY", "ERROR_SNAPSHOT", "ABORT_ROLLBACK"),
        ],
    )
    def test_fault_b1_a_code_of_the_moment_is_retryable(self, name: str) -> None:
        assert is_retryable(_from_sqlite(getattr(sqlite3, f"SQLITE_{name}")))

    @pytest.mark.parametrize(
        "name",
        [
            *("ERROR", "PERM", "READONLY", "READONLY_DIRECTORY", "CORRUPT", "CORRUPT_INDEX", "TOOBIG", "CONSTRAINT"),
            *("CONSTRAINT_UNIQUE", "MISMATCH", "MISUSE", "AUTH", "NOTADB", "CANTOPEN_ISDIR", "IOERR_CORRUPTFS"),
        ],
    )
    def test_fault_b1_a_wrong_statement_or_file_is_not_retryable(self, name: str) -> None:
        assert not is_retryable(_from_sqlite(getattr(sqlite3, f"SQLITE_{name}")))

    def test_fault_b1_a_missing_table_has_a_remedy(self) -> None:
        decision = decision_on(_from_sqlite(sqlite3.SQLITE_ERROR, "no such table: es_django_event"))
        assert decision is not None
        assert "migrate" in decision.remedy

    def test_fault_b1_a_connection_that_somebody_closed_is_retryable(self) -> None:
        driver = sqlite3.connect(":memory:")
        driver.close()
        with pytest.raises(sqlite3.ProgrammingError) as caught:
            driver.execute("SELECT 1")
        assert is_retryable(caught.value)


class TestWithoutCode:
    @pytest.mark.parametrize(
        "error",
        [
            psycopg.OperationalError("connection refused"),
            psycopg.OperationalError("could not translate host name"),
            psycopg.errors.ConnectionTimeout("timeout expired"),
            psycopg.InterfaceError("the connection is closed"),
            django.db.ProgrammingError("Cannot open a new connection in an atomic block."),
        ],
        ids=str,
    )
    def test_fault_b1_a_lost_or_refused_connection_is_retryable(self, error: Exception) -> None:
        assert is_retryable(error)

    def test_fault_b1_a_mistake_of_the_caller_is_not_retryable(self) -> None:
        assert not is_retryable(psycopg.ProgrammingError("a placeholder too many"))
