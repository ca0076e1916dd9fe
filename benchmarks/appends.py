"""Appends beside bare psycopg, which stores the same rows with one prepared statement and no checks.

The floor also sends several events as one JSON text, because arrays take 8 times as long."""

import time
from collections.abc import Iterator

import msgspec
import psycopg
from django.db import transaction
from uuid_utils.compat import uuid7

from benchmarks.measure import Effort, Figure, Title, Work, alone, bare_connection, compare, in_processes, new_key
from benchmarks.subject import PROJECT, Followed, Measured, Published, Subject, fill, measured
from es_django import NO_STREAM, Repository, StreamId, event_store

CATEGORY = "benchmark"
OTHER_WORK = 0.005

STREAM = """
INSERT INTO es_django_stream (category, key, version, created_at, updated_at)
VALUES (%s, %s, %s, clock_timestamp(), clock_timestamp()) RETURNING id
"""
EVENT = """
INSERT INTO es_django_event (stream_id, version, type, schema_version, data, metadata, event_id, recorded_at)
SELECT id, 1, %s, 1, %s::jsonb, '{}', %s, clock_timestamp() FROM stream RETURNING position, version, recorded_at
"""
EVENTS = """
INSERT INTO es_django_event (stream_id, version, type, schema_version, data, metadata, event_id, recorded_at)
SELECT stream.id, new.version, %s, 1, new.data, '{}', new.id, clock_timestamp()
  FROM stream CROSS JOIN jsonb_to_recordset(%s::jsonb) AS new (version int, data jsonb, id uuid)
RETURNING position, version, recorded_at
"""
MESSAGE = """
INSERT INTO es_django_outboxmessage (message_id, destination, type, key, data, headers, stream_id, stream_version,
                                     status, attempts, last_error, available_at, created_at)
SELECT %s, 'nowhere', %s, %s, %s::jsonb, %s::jsonb, id, 1, 'pending', 0, '', clock_timestamp(), clock_timestamp()
  FROM stream
"""
APPEND_ONE = f"WITH stream AS ({STREAM}) {EVENT}"
APPEND_MANY = f"WITH stream AS ({STREAM}) {EVENTS}"
APPEND_WITH_MESSAGE = f"WITH stream AS ({STREAM}), message AS ({MESSAGE}) {EVENT}"

encode = msgspec.json.encode


def append(event_class: type[Measured] = Measured) -> Work:
    return lambda: event_store.append(StreamId(CATEGORY, new_key()), [measured(1, event_class)], expected=NO_STREAM)


def append_with_message() -> Work:
    return append(Published)


def append_and_project() -> Work:
    return append(Followed)


def save(events: int) -> Work:
    subjects = Repository(Subject)

    def work() -> None:
        subject = Subject(new_key())
        for number in range(events):
            subject.record(measured(number))
        subjects.save(subject)

    return work


def append_in_busy_transaction() -> Work:
    work = append()

    def with_other_work() -> None:
        with transaction.atomic():
            work()
            time.sleep(OTHER_WORK)

    return with_other_work


def bare_append() -> Work:
    return _append_through(bare_connection())


def bare_append_in_busy_transaction() -> Work:
    bare = bare_connection()
    work = _append_through(bare)

    def with_other_work() -> None:
        with bare.transaction():
            work()
            time.sleep(OTHER_WORK)

    return with_other_work


def _append_through(bare: psycopg.Connection) -> Work:
    cursor = bare.cursor()

    def work() -> None:
        stored = ["benchmarks.measured", encode(measured(1)).decode(), uuid7()]
        cursor.execute(APPEND_ONE, [CATEGORY, new_key(), 1, *stored]).fetchall()

    return work


def bare_append_with_message() -> Work:
    cursor = bare_connection().cursor()

    def work() -> None:
        event, key, event_id = measured(1), new_key(), uuid7()
        data = encode({"account": event.account, "amount": event.amount, "currency": event.currency}).decode()
        headers = encode({"causation_id": event_id}).decode()
        message = [uuid7(), "benchmarks.published", key, data, headers]
        stored = ["benchmarks.published", encode(event).decode(), event_id]
        cursor.execute(APPEND_WITH_MESSAGE, [CATEGORY, key, 1, *message, *stored]).fetchall()

    return work


def bare_append_and_project() -> Work:
    bare = bare_connection()
    cursor = bare.cursor()

    def work() -> None:
        event, key = measured(1), new_key()
        with bare.transaction():
            stored = ["benchmarks.followed", encode(event).decode(), uuid7()]
            cursor.execute(APPEND_ONE, [CATEGORY, key, 1, *stored]).fetchall()
            cursor.execute(PROJECT, [key, event.amount])

    return work


def bare_save(events: int) -> Work:
    cursor = bare_connection().cursor()

    def work() -> None:
        rows = [{"version": number, "data": measured(number), "id": uuid7()} for number in range(1, events + 1)]
        stored = ["benchmarks.measured", encode(rows).decode()]
        cursor.execute(APPEND_MANY, [CATEGORY, new_key(), events, *stored]).fetchall()

    return work


def measure(effort: Effort) -> Iterator[Figure]:
    with bare_connection() as bare:
        fill(bare, 1000, 10)
        bare.execute("VACUUM ANALYZE", prepare=False)
    times, few, fewer = effort.of(1000), effort.of(300), effort.of(100)
    pairs = {
        "1 event, 1 process": (alone(append, times), alone(bare_append, times), 0.75),
        "1 event, 8 processes": (in_processes(append, times, 8), in_processes(bare_append, times, 8), 0.7),
        "1 event and its message": (alone(append_with_message, times), alone(bare_append_with_message, times), 0.65),
        "1 event and its inline projection": (
            alone(append_and_project, times),
            alone(bare_append_and_project, times),
            0.6,
        ),
        "10 events in one save": (
            alone(lambda: save(10), few, each=10),
            alone(lambda: bare_save(10), few, each=10),
            0.6,
        ),
        "100 events in one save": (
            alone(lambda: save(100), fewer, each=100),
            alone(lambda: bare_save(100), fewer, each=100),
            0.6,
        ),
        "1 event + 5 ms of other work, 8 processes": (
            in_processes(append_in_busy_transaction, times, 8),
            in_processes(bare_append_in_busy_transaction, times, 8),
            0.95,
        ),
    }
    for work, (ours, floor, least) in pairs.items():
        yield compare(Title("append", work, "events"), ours, floor, least, effort)
