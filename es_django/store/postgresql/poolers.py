"""Find out whether a pooler, such as PgBouncer, stands between this process and PostgreSQL.

A pooler in transaction mode gives each transaction some server connection, which other clients use before and after
it. So what a session keeps beyond a transaction is lost, or belongs to another client.
"""

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.errors import error_from_result
from psycopg.generators import execute
from psycopg.pq import ExecStatus

if TYPE_CHECKING:
    from psycopg.abc import PQGen


def is_direct(driver: psycopg.Connection[Any]) -> bool:
    """Return whether the connection ends at a server process of PostgreSQL, and not at a pooler.

    At the start of a connection, PostgreSQL sends its process id, which a client needs to cancel a statement. A pooler
    sends a number of its own. This costs a round trip.
    """
    return bool(driver.wait(_pid(driver)) == driver.pgconn.backend_pid)


def _pid(driver: psycopg.Connection[Any]) -> "PQGen[int]":
    driver.pgconn.send_query_params(b"SELECT pg_backend_pid()", None)
    (result,) = yield from execute(driver.pgconn)
    if result.status != ExecStatus.TUPLES_OK:
        raise error_from_result(result)
    return int(result.get_value(0, 0) or 0)
