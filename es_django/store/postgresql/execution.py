"""Execute a statement: through libpq where possible, else through Django's cursor.

The fast way in `prepared.py` uses private parts of Django and psycopg. If the installed release lacks one of these
parts, every statement goes through Django's cursor, with the same rows and errors. Statements that Django logs
(`DEBUG`) also go through Django's cursor, because the log needs the text that the cursor makes.
"""

from collections.abc import Callable

from django.db.backends.base.base import BaseDatabaseWrapper

from es_django.core.logs import Log
from es_django.store.postgresql import plain_cursor
from es_django.store.postgresql.plain_cursor import Parameters, Rows

logger: Log = Log(__name__)

Fetch = Callable[[BaseDatabaseWrapper, str, Parameters, bool], Rows]


def fetch(connection: BaseDatabaseWrapper, statement: str, parameters: Parameters, *, prepare: bool = True) -> Rows:
    """Return the rows of a statement with named parameters.

    The columns and casts of the statement define the types of the parameters. With `prepare=False`, PostgreSQL plans
    the statement for the given parameters at each call.
    """
    if connection.queries_logged:
        return plain_cursor.fetch(connection, statement, parameters, prepare)
    return _fetch(connection, statement, parameters, prepare)


def _choose_and_fetch(connection: BaseDatabaseWrapper, statement: str, parameters: Parameters, prepare: bool) -> Rows:
    global _fetch
    connection.ensure_connection()
    _fetch = _fastest(connection)
    return _fetch(connection, statement, parameters, prepare)


def _fastest(connection: BaseDatabaseWrapper) -> Fetch:
    try:
        from es_django.store.postgresql import prepared
    except ImportError as error:
        missing = str(error)
    else:
        parts = prepared.missing_parts(connection)
        if not parts:
            return prepared.fetch
        missing = f"without {', '.join(parts)}"
    logger.warning(
        "statements go through Django's cursor, which is slower, because Django or psycopg has changed (%s): "
        "look for a newer es_django",
        missing,
        extra={"database": connection.alias},
    )
    return plain_cursor.fetch


_fetch: Fetch = _choose_and_fetch
"""The function that executes statements. It is chosen at the first statement of the process."""
