"""How fast the log is read, projections run and read models rebuilt, each beside a floor measured in the same run.

    python -m benchmarks.projections [--quick]

Needs a PostgreSQL in DATABASE_URL, on which it makes a test database and drops it again. The floor of reading is bare
psycopg that selects the same rows and decodes their payloads with msgspec. Contenders take turns, and what counts is
the median of each; the ratios are what to look at, since absolute times depend on the machine. Ends with 1 if one is
missed, but for the quick mode.
"""

import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager

import django
import msgspec

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
django.setup()

import psutil  # noqa: E402
import psycopg  # noqa: E402
from django.db import connection  # noqa: E402
from django.test.utils import override_settings  # noqa: E402

from benchmarks.measure import fresh_database, rates, report  # noqa: E402
from es_django import Event, Projection, RecordedEvent, event_store, projects  # noqa: E402
from es_django.models import Lease, ProjectionCheckpoint  # noqa: E402
from es_django.projections import run_projection, start_rebuild  # noqa: E402

PAGE = 1000
LEAST = 0.5
MOST_GROWTH = 64 * 2**20
"""Bytes that a rebuild may take beyond what it has taken after its first events."""


class Measured(Event):
    """Six fields, as in a typical event."""

    account: str
    amount: int
    currency: str
    reason: str
    by: str
    number: int

    class Meta:
        name = "benchmarks.measured"


class Empty(Projection):
    class Meta:
        name = "benchmarks.empty"
        mode = "async"
        models = [Lease]

    @projects
    def measured(self, event: Measured, recorded: RecordedEvent) -> None:
        pass


FILL = """
WITH stream AS (
    INSERT INTO es_django_stream (category, key, version, created_at, updated_at)
    SELECT 'benchmark', 's-' || number, 10, clock_timestamp(), clock_timestamp()
      FROM generate_series(1, %(streams)s) AS number
    RETURNING id
)
INSERT INTO es_django_event (stream_id, version, type, schema_version, data, metadata, event_id, recorded_at)
SELECT stream.id, version, 'benchmarks.measured', 1,
       jsonb_build_object('account', 'account-' || stream.id, 'amount', version * 100, 'currency', 'EUR',
                          'reason', 'a reason of some length', 'by', 'somebody', 'number', version),
       '{"request": "r-1"}', gen_random_uuid(), clock_timestamp()
  FROM generate_series(1, 10) AS version CROSS JOIN stream
 ORDER BY version, stream.id
"""

SELECT = """
SELECT event.position, event.version, event.type, event.schema_version, event.data::text, event.metadata::text,
       event.correlation_id, event.causation_id, event.event_id, event.recorded_at, stream.category, stream.key
  FROM es_django_event AS event JOIN es_django_stream AS stream ON stream.id = event.stream_id
 WHERE event.position > %s ORDER BY event.position LIMIT 1000
"""


def read_barely() -> int:
    """The floor: the same rows, their payloads decoded, and nothing else."""
    decode = msgspec.json.Decoder(Measured).decode
    read, after = 0, 0
    with psycopg.Cursor(connection.connection) as cursor:
        while rows := cursor.execute(SELECT, [after]).fetchall():
            decoded = [decode(row[4]) for row in rows]
            read, after = read + len(decoded), rows[-1][0]
    return read


def read_all() -> int:
    read, after = 0, 0
    while (page := event_store.read_all(after=after, limit=PAGE)).events:
        read, after = read + len(page.events), page.position
    return read


def project() -> int:
    ProjectionCheckpoint.objects.all().delete()
    return run_projection(Empty.name, seconds=3600)


def rebuild() -> tuple[float, int]:
    """Events a second, and the bytes by which the process grew on the way from the first tenth to the end."""
    process = psutil.Process()
    start_rebuild(Empty.name, by="the benchmark")
    started = time.perf_counter()
    applied = run_projection(Empty.name, seconds=0.5)
    before = process.memory_info().rss
    highest = before
    while True:
        done = run_projection(Empty.name, seconds=0.5)
        highest = max(highest, process.memory_info().rss)
        applied += done
        if not done:
            return applied / (time.perf_counter() - started), highest - before


@contextmanager
def filled_database(events: int) -> Iterator[None]:
    with fresh_database(), connection.cursor() as cursor:
        cursor.execute(FILL, {"streams": events // 10})
        cursor.execute("ANALYZE")
        yield


def main() -> int:
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few events, to see that it works")
    quick = parser.parse_args().quick
    events, replayed, rounds = (20_000, 50_000, 5) if quick else (100_000, 1_000_000, 7)
    contenders = {"bare psycopg": read_barely, "read_all": read_all, "empty projection": project}
    with override_settings(ES_DJANGO={"PROJECTIONS": {"BATCH_SIZE": PAGE}}):
        with filled_database(events):
            found = rates(contenders, rounds)
        with filled_database(replayed):
            rebuilt, growth = rebuild()
    ratios = [("read_all", "bare psycopg", LEAST), ("empty projection", "read_all", LEAST)]
    good = report(f"{events:,} events in pages of {PAGE:,}, median of {rounds}", found, ratios)
    print(f"Rebuild of {replayed:,} events: {rebuilt:,.0f} events/s, {growth / 2**20:.1f} MB more on the way")
    return int(not quick and not (good and growth <= MOST_GROWTH))


if __name__ == "__main__":
    sys.exit(main())
