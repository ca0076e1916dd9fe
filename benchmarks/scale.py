"""The same work with 1,000,000 and with 10,000 stored events: no cost may grow with the log."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle

from django.db import connection

from benchmarks.measure import (
    WARM_UP,
    Contender,
    Effort,
    Figure,
    Title,
    Work,
    alone,
    bare_connection,
    compare,
    new_key,
)
from benchmarks.outbox import BATCH, claim_and_settle, fill_outbox
from benchmarks.subject import Subject, fill, measured
from es_django import NO_STREAM, Repository, StreamId, event_store

SMALL, LARGE = 10_000, 1_000_000
STREAMS = SMALL // 10
LEAST = 1 / 1.15


@contextmanager
def small_and_large(effort: Effort) -> Iterator[tuple[str, str]]:
    """Return the names of two databases: the current one with few events, and one with many."""
    small = connection.settings_dict["NAME"]
    large = f"{small}_large"
    connection.close()
    with connection._nodb_cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{large}"')
        cursor.execute(f'CREATE DATABASE "{large}" TEMPLATE "{small}"')
    try:
        for name, events in ((small, SMALL), (large, effort.of(LARGE))):
            use(name)
            with bare_connection() as bare:
                fill(bare, events // 10, 10)
                fill_outbox(bare, events, status="published")
                bare.execute("VACUUM ANALYZE", prepare=False)
                bare.execute("CHECKPOINT", prepare=False)
        yield small, large
    finally:
        use(small)
        connection.close()
        with connection._nodb_cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{large}" WITH (FORCE)')


def use(database: str) -> None:
    connection.close()
    connection.settings_dict["NAME"] = database


def in_database(name: str, run: Contender) -> Contender:
    def contender() -> float:
        use(name)
        return run()

    return contender


def append() -> Work:
    return lambda: event_store.append(StreamId(Subject.category, new_key()), [measured(1)], expected=NO_STREAM)


def load() -> Work:
    # In both databases, load the same number of streams, all in cache. Only the rest of the log differs.
    subjects, numbers = Repository(Subject), cycle(random.Random(1).sample(range(1, STREAMS + 1), STREAMS))
    return lambda: subjects.get(f"s-{next(numbers)}")


def read_page() -> Work:
    middle = event_store.safe_end() // 2
    return lambda: event_store.read_all(after=middle, limit=1000)


def claim(times: int) -> Work:
    with bare_connection() as bare:
        fill_outbox(bare, times * BATCH)
        bare.execute("ANALYZE es_django_outboxmessage", prepare=False)
    return claim_and_settle


def measure(effort: Effort) -> Iterator[Figure]:
    many = effort.of(LARGE)
    times, pages, batches = effort.of(3000), effort.of(200), effort.of(50)
    with small_and_large(effort) as (small, large):
        contenders: dict[tuple[str, str], Contender] = {
            # Warm up with all streams: a session's first access to a cached page costs more, and pages are scattered.
            ("load of 10 events", "aggregates"): alone(load, times, warm_up=STREAMS),
            ("page of 1,000 of the log", "events"): alone(read_page, pages, each=1000),
            (f"claim and settle {BATCH}", "messages"): alone(lambda: claim(batches + WARM_UP), batches, each=BATCH),
            # Appends run last, because they would add streams of one event to the log that the other measurements read.
            ("append of 1 event", "events"): alone(append, times),
        }
        for (work, unit), run in contenders.items():
            yield compare(
                Title(f"scale, {many:,} events stored", work, unit, beside=f"{SMALL:,} events stored"),
                in_database(large, run),
                in_database(small, run),
                LEAST,
                effort,
            )
