"""Loads, beside psycopg and msgspec alone: they select and decode the same rows, but fold no state."""

from collections.abc import Iterator

import msgspec
import psycopg
from uuid_utils.compat import uuid7

from benchmarks.measure import WARM_UP, Effort, Figure, Maker, Title, Work, alone, bare_connection, compare, new_key
from benchmarks.subject import Cached, Measured, Subject, fill, measured
from es_django import Repository

SELECT = """
SELECT version, type, schema_version, data::text FROM es_django_event
 WHERE stream_id = (SELECT id FROM es_django_stream WHERE category = %s AND key = %s) ORDER BY version
"""
APPEND = """
WITH stream AS (
    UPDATE es_django_stream SET version = version + 1, updated_at = clock_timestamp()
     WHERE category = %s AND key = %s AND version = %s RETURNING id, version
)
INSERT INTO es_django_event (stream_id, version, type, schema_version, data, metadata, event_id, recorded_at)
SELECT id, version, %s, 1, %s::jsonb, '{}', %s, clock_timestamp() FROM stream RETURNING position, version, recorded_at
"""

encode = msgspec.json.encode
decode = msgspec.json.Decoder(Measured).decode


def load(aggregate: type[Subject], key: str) -> Maker:
    repository = Repository(aggregate)
    return lambda: lambda: repository.get(key)


def bare_load(key: str) -> Maker:
    def make() -> Work:
        cursor = bare_connection().cursor()
        return lambda: _events(cursor, key)

    return make


def _events(cursor: psycopg.Cursor, key: str) -> list[Measured]:
    return [decode(row[3]) for row in cursor.execute(SELECT, [Subject.category, key]).fetchall()]


def new_streams(count: int) -> Iterator[str]:
    """Return the keys of new streams with 10 events each."""
    prefix = new_key()
    with bare_connection() as bare:
        fill(bare, count, 10, prefix=prefix)
    return iter([f"{prefix}{number}" for number in range(1, count + 1)])


def execute(times: int) -> Work:
    subjects, keys = Repository(Subject), new_streams(times)

    def decide(subject: Subject) -> None:
        subject.record(measured(subject.amount))

    return lambda: subjects.execute(next(keys), decide)


def bare_execute(times: int) -> Work:
    cursor, keys = bare_connection().cursor(), new_streams(times)

    def work() -> None:
        key = next(keys)
        events = _events(cursor, key)
        decided = measured(sum(event.amount for event in events))
        stored = ["benchmarks.measured", encode(decided).decode(), uuid7()]
        cursor.execute(APPEND, [Subject.category, key, len(events), *stored]).fetchall()

    return work


def measure(effort: Effort) -> Iterator[Figure]:
    with bare_connection() as bare:
        fill(bare, 1, 1000, prefix="long-")
        fill(bare, 1, 10, prefix="short-")
    cached = Cached("cached-1")
    for until in (990, 1000):
        for number in range(cached.version, until):
            cached.record(measured(number))
        Repository(Cached).save(cached)

    times, few = effort.of(1000), effort.of(100)
    streams = times + WARM_UP
    yield compare(
        Title("load", "10 events, decide, save (execute)", "commands"),
        alone(lambda: execute(streams), times),
        alone(lambda: bare_execute(streams), times),
        0.5,
        effort,
    )
    yield compare(
        Title("load", "1,000 events", "aggregates"),
        alone(load(Subject, "long-1"), few),
        alone(bare_load("long-1"), few),
        0.5,
        effort,
    )
    yield compare(
        Title("load", "1,000 events with a snapshot at 990", "aggregates", beside="10 events, no snapshot"),
        alone(load(Cached, "cached-1"), times),
        alone(load(Subject, "short-1"), times),
        1 / 1.5,
        effort,
    )
