"""Decide for each error code of PostgreSQL and SQLite whether a retry can succeed, and which remedy the code has.

A code that is not listed has the decision of its class (the first two characters of an SQLSTATE) or of its primary
result code (the low byte of a code of SQLite). Texts of PostgreSQL are never read, because a server may translate them.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Decision(NamedTuple):
    retryable: bool
    reason: str
    remedy: str = ""


def _retry(reason: str, remedy: str = "") -> Decision:
    return Decision(True, reason, remedy)


def _final(reason: str, remedy: str = "") -> Decision:
    return Decision(False, reason, remedy)


MIGRATE: Final = "Run manage.py migrate on this database, and check the search_path of the connection"
GRANT: Final = (
    "The role of the connection needs SELECT, INSERT, UPDATE and DELETE on the tables of es_django, and USAGE on their "
    "sequences"
)
POOL_MODE: Final = "es_django needs transactions: set the pooler's pool_mode to transaction or session"
STARTUP_PARAMETERS: Final = (
    "Add the parameter to PgBouncer's ignore_startup_parameters if the server need not know it. Otherwise remove it "
    'from the "OPTIONS" of the database, and set it with ALTER ROLE or ALTER DATABASE'
)
PREPARED: Final = (
    'Behind a pooler, remove prepare_threshold from the "OPTIONS" of the database, or let the pooler track prepared '
    "statements (PgBouncer 1.21 and newer: max_prepared_statements)"
)
SERVER_SIDE_CURSORS: Final = "Behind a pooler, set DISABLE_SERVER_SIDE_CURSORS to True in the settings of the database"
_NO_ERROR = _final("not an error: no statement fails with this code")
_OF_THE_STATEMENT = _final("the same statement fails again")
_OF_THE_DATA = _final("the same data fails again")
_OF_THE_CODE = _final("code in the database refused the statement, and refuses it again")
_SESSION_ENDED = _retry("the session has ended, and a new connection can succeed")
_TRANSACTION_LOST = _retry("the transaction was rolled back because of another one")
_NO_SPACE = _retry("no space is left until someone frees some", "Free disk space for the database")
_LOGIN = _final("the server refuses the login", "Check USER and PASSWORD in DATABASES, and pg_hba.conf")
_FAILING_DISK = _retry("the disk or a network file system failed, which may pass", "Check the disk of the database")

BY_SQLSTATE_CLASS: Final[Mapping[str, Decision]] = {
    **dict.fromkeys(("00", "01", "02"), _NO_ERROR),
    **dict.fromkeys(("03", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10"), _OF_THE_STATEMENT),
    "08": _retry("the connection failed or was refused"),
    **dict.fromkeys(("20", "21", "24", "25", "27", "2B", "2D", "3B", "42"), _OF_THE_STATEMENT),
    **dict.fromkeys(("22", "23", "44"), _OF_THE_DATA),
    "26": _final("a pooler has lost the prepared statement", PREPARED),
    "28": _LOGIN,
    **dict.fromkeys(("2F", "38", "39", "P0"), _OF_THE_CODE),
    "34": _final("a pooler has lost the cursor", SERVER_SIDE_CURSORS),
    "3D": _final("the database does not exist", "Create the database, or correct NAME in DATABASES"),
    "3F": _final("the schema does not exist", MIGRATE),
    "40": _TRANSACTION_LOST,
    "53": _retry("the server lacks memory, connections or another resource for now"),
    "54": _final("the statement exceeds a limit of the server"),
    "55": _final("the object is not in the state that the statement needs"),
    "57": _retry("an operator or a time limit ended the statement or the session"),
    "58": _FAILING_DISK,
    "72": _retry("the snapshot was too old, and a new transaction has a new one"),
    "F0": _final("a configuration file of the server is wrong"),
    "HV": _final("a foreign table is declared wrongly"),
    "XX": _retry("an internal error can be one of the moment, for example while another session changes a table"),
}

BY_SQLSTATE: Final[Mapping[str, Decision]] = {
    "25006": _retry(
        "the server is read-only, for example a standby during a failover",
        "After a failover, the connection must lead to the new primary. Otherwise, check HOST in DATABASES and "
        "default_transaction_read_only",
    ),
    **dict.fromkeys(("25P03", "25P04"), _SESSION_ENDED),
    "40002": _OF_THE_DATA,
    "42501": _final("the role lacks a right", GRANT),
    **dict.fromkeys(("42P01", "42703", "42883"), _final("the tables are not those of this release", MIGRATE)),
    "42P05": _final("another client of a pooler has prepared the statement", PREPARED),
    "53100": _NO_SPACE,
    "55006": _retry("another session uses the object"),
    "55P03": _retry("a lock was not granted within the time limit"),
    "57014": _retry("a time limit or an operator cancelled the statement"),
    **dict.fromkeys(("57P01", "57P02", "57P04", "57P05"), _SESSION_ENDED),
    "57P03": _retry("the server starts up, shuts down or recovers"),
    **dict.fromkeys(("58P01", "58P02", "58P03"), _final("a file of the server or of an extension is wrong")),
    **dict.fromkeys(("HV001", "HV014", "HV00N"), _retry("the server of a foreign table cannot be reached for now")),
    **dict.fromkeys(("XX001", "XX002"), _final("stored data is damaged", "Stop writing, and restore a backup")),
}

BY_SQLITE_CODE: Final[Mapping[int, Decision]] = {
    **dict.fromkeys((0, 27, 28, 100, 101), _NO_ERROR),  # OK, NOTICE, WARNING, ROW, DONE
    1: _OF_THE_STATEMENT,  # ERROR
    2: _final("SQLite met an error of its own"),  # INTERNAL
    3: _final("the file may not be used", "Give the process the right to write the file and its folder"),  # PERM
    4: _retry("a rollback or an interruption ended the statement"),  # ABORT
    5: _retry("another connection holds the write lock"),  # BUSY
    6: _retry("another connection of the process holds the table"),  # LOCKED
    7: _retry("memory was short for a moment"),  # NOMEM
    8: _final("the file is read-only", "Give the process the right to write the file and its folder"),  # READONLY
    9: _retry("the statement was interrupted"),  # INTERRUPT
    10: _FAILING_DISK,  # IOERR
    11: _final("the file is damaged", "Stop writing, and restore a backup"),  # CORRUPT
    12: _OF_THE_STATEMENT,  # NOTFOUND
    13: _NO_SPACE,  # FULL
    14: _retry("too few file handles, or a folder that is not mounted yet", "Check NAME in DATABASES"),  # CANTOPEN
    15: _retry("other connections kept the lock of the write-ahead log"),  # PROTOCOL
    16: _OF_THE_STATEMENT,  # EMPTY
    17: _retry("another connection has changed the schema"),  # SCHEMA
    **dict.fromkeys((18, 19, 20), _OF_THE_DATA),  # TOOBIG, CONSTRAINT, MISMATCH
    **dict.fromkeys((21, 22, 23, 25), _OF_THE_STATEMENT),  # MISUSE, NOLFS, AUTH, RANGE
    **dict.fromkeys((24, 26), _final("the file is not a database of SQLite", "Correct NAME in DATABASES")),
    513: _retry("SQLite asks for a retry"),  # ERROR_RETRY
    769: _retry("the snapshot is not available any more"),  # ERROR_SNAPSHOT
    # READONLY_RECOVERY, _CANTLOCK, _ROLLBACK, _DBMOVED and _CANTINIT
    **dict.fromkeys((264, 520, 776, 1032, 1288), _retry("another process recovers or replaces the file")),
    526: _final("the name is that of a folder", "Correct NAME in DATABASES"),  # CANTOPEN_ISDIR
    1550: _final("the name is that of a symbolic link", "Correct NAME in DATABASES"),  # CANTOPEN_SYMLINK
    8458: _final("the file system is damaged", "Stop writing, and restore a backup"),  # IOERR_CORRUPTFS
}

_BY_TEXT = {
    "statement pooling mode": _final("the pooler refuses transactions", POOL_MODE),  # 08P01 of PgBouncer
    "unsupported startup parameter": _final("the pooler refuses the connection", STARTUP_PARAMETERS),  # PgBouncer
    "no such table": _final("the tables are not those of this release", MIGRATE),  # SQLite
    "no such column": _final("the tables are not those of this release", MIGRATE),  # SQLite
    "has no column named": _final("the tables are not those of this release", MIGRATE),  # SQLite
    "Cannot operate on a closed database": _SESSION_ENDED,  # sqlite3
    "Cannot open a new connection in an atomic block": _SESSION_ENDED,  # Django
}
"""Texts that nobody translates, of errors whose code does not tell enough."""
_AMBIGUOUS: Final = ("08P01", 1, None)


def decision_on(error: BaseException) -> Decision | None:
    """Return the decision on an error of a database driver, or None if it has no code and no known text."""
    sqlstate: str | None = getattr(error, "sqlstate", None)
    sqlite_code: int | None = getattr(error, "sqlite_errorcode", None)
    code = sqlite_code if sqlstate is None else sqlstate
    if code in _AMBIGUOUS and any(kind.__name__ == "Error" for kind in type(error).__mro__):
        text = str(error)
        for part, decision in _BY_TEXT.items():
            if part in text:
                return decision
    if sqlstate is not None:
        return BY_SQLSTATE.get(sqlstate) or BY_SQLSTATE_CLASS.get(sqlstate[:2], _OF_THE_STATEMENT)
    if sqlite_code is not None:
        return BY_SQLITE_CODE.get(sqlite_code) or BY_SQLITE_CODE.get(sqlite_code & 0xFF, _OF_THE_STATEMENT)
    return None
