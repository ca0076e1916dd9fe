"""Read and project the log, beside psycopg and msgspec alone, which select the same rows and decode their payloads.

And measure whether a rebuild of a read model runs in bounded memory.
"""

from collections.abc import Iterator

import msgspec
import psutil
from django.conf import settings
from django.test.utils import override_settings

from benchmarks.measure import Effort, Figure, Title, Work, alone, bare_connection, compare
from benchmarks.subject import Measured, fill
from es_django import Projection, RecordedEvent, event_store, projects
from es_django.models import Lease, ProjectionCheckpoint
from es_django.projections import run_projection, start_rebuild

PAGE = 1000


class Empty(Projection):
    class Meta:
        name = "benchmarks.empty"
        mode = "async"
        models = [Lease]

    @projects
    def measured(self, event: Measured, recorded: RecordedEvent) -> None:
        pass


SELECT = """
SELECT event.position, event.version, event.type, event.schema_version, event.data::text, event.metadata::text,
       event.correlation_id, event.causation_id, event.event_id, event.recorded_at, stream.category, stream.key
  FROM es_django_event AS event JOIN es_django_stream AS stream ON stream.id = event.stream_id
 WHERE event.position > %s ORDER BY event.position LIMIT 1000
"""


def bare_read_all() -> Work:
    cursor = bare_connection().cursor()
    decode = msgspec.json.Decoder(Measured).decode

    def work() -> None:
        after = 0
        while rows := cursor.execute(SELECT, [after]).fetchall():
            for row in rows:
                decode(row[4])
            after = rows[-1][0]

    return work


def read_all() -> Work:
    def work() -> None:
        after = 0
        while (page := event_store.read_all(after=after, limit=PAGE)).events:
            after = page.position

    return work


def project() -> Work:
    ProjectionCheckpoint.objects.all().delete()
    return lambda: run_projection(Empty.name, seconds=3600)


def memory_of_rebuild() -> tuple[float, float]:
    """Return the memory of this process in megabytes, after half a second of a rebuild and at its peak."""
    process = psutil.Process()
    start_rebuild(Empty.name, by="the benchmark")
    run_projection(Empty.name, seconds=0.5)
    early = highest = process.memory_info().rss
    while run_projection(Empty.name, seconds=0.5):
        highest = max(highest, process.memory_info().rss)
    return early / 2**20, highest / 2**20


def measure(effort: Effort) -> Iterator[Figure]:
    events = effort.of(100_000)
    with bare_connection() as bare:
        bare.execute("TRUNCATE es_django_event, es_django_stream CASCADE", prepare=False)
        fill(bare, events // 10, 10)
        bare.execute("ANALYZE", prepare=False)
    with override_settings(ES_DJANGO={**settings.ES_DJANGO, "PROJECTIONS": {"BATCH_SIZE": PAGE}}):
        reading = alone(read_all, 1, each=events, warm_up=0)
        barely = alone(bare_read_all, 1, each=events, warm_up=0)
        yield compare(Title("projections", "the log, in pages of 1,000", "events"), reading, barely, 0.5, effort)
        yield compare(
            Title("projections", "an empty projection", "events", beside="read_all"),
            alone(project, 1, each=events, warm_up=0),
            reading,
            0.5,
            effort,
        )
        more = effort.of(1_000_000)
        with bare_connection() as bare:
            fill(bare, more // 10, 10, prefix="more-")
        early, highest = memory_of_rebuild()
        yield Figure(
            Title("projections", f"memory of a rebuild from {more:,} events", "MB", beside="at its peak"),
            early,
            highest,
            0.75,
        )
