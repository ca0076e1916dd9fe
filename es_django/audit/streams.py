"""Compare streams with their events, in one pass over both tables in the order of stream ids.

Events may be appended during the audit. Events never vanish, and are stored in the order of their versions. So a gap is
always a finding. If the version of a stream differs from its last event, an append may have come between the two reads.
So one statement reads both again, and the difference is a finding only if it is still there.
"""

from collections.abc import Generator, Iterator
from itertools import groupby
from operator import itemgetter
from typing import cast

from django.db import connections

from es_django.audit.findings import AuditContext, Finding, in_pages, sql_pages
from es_django.models import Stream

Place = tuple[int, int, int]
"""stream, version, position"""

EVENTS = """
SELECT stream_id, version, position FROM es_django_event
 WHERE (stream_id, version, position) > (%s, %s, %s)
 ORDER BY stream_id, version, position LIMIT 5000
"""

VERSIONS = """
SELECT stream.version, coalesce((SELECT max(version) FROM es_django_event WHERE stream_id = stream.id), 0)
  FROM es_django_stream AS stream WHERE stream.id = %s
"""


def findings(context: AuditContext) -> Iterator[Finding]:
    groups = groupby(_places(context), key=itemgetter(0))
    group = next(groups, None)
    for page in in_pages(Stream.objects.using(context.using), "category", "key", "version"):
        for id, category, key, version in page:
            while group is not None and group[0] < id:
                yield from _orphans(context, *group)
                group = next(groups, None)
            context.counts["streams"] += 1
            name, last = f"stream {category!r} {key!r}", 0
            if group is not None and group[0] == id:
                last = yield from _faults(name, group[1])
                group = next(groups, None)
            if last != version:
                yield from _other_version(context, name, id)
        context.report(page[-1][0])
    while group is not None:
        yield from _orphans(context, *group)
        group = next(groups, None)


def _places(context: AuditContext) -> Iterator[Place]:
    for page in sql_pages(context.using, EVENTS, keys=3):
        yield from cast("list[Place]", page)


def _faults(stream: str, places: Iterator[Place]) -> Generator[Finding, None, int]:
    """Yield the violations among the events of a stream, and return the version of the last event."""
    last = before = 0
    for _, version, position in places:
        if version == last:
            yield Finding("duplicate", f"{stream} has version {version} at positions {before} and {position}")
        elif version > last + 1:
            missing = f"version {last + 1}" if version == last + 2 else f"versions {last + 1} to {version - 1}"
            yield Finding("gap", f"{stream} lacks {missing}, before version {version} at position {position}")
        if position < before:
            later = f"version {version} at position {position}"
            yield Finding("order", f"{stream} has {later}, before version {last} at position {before}")
        last, before = version, position
    return last


def _other_version(context: AuditContext, stream: str, id: int) -> Iterator[Finding]:
    with connections[context.using].cursor() as cursor:
        cursor.execute(VERSIONS, [id])
        version, last = cursor.fetchone() or (0, 0)
    if version != last:
        yield Finding("stream version", f"{stream} is at version {version}, but its last event has version {last}")


def _orphans(context: AuditContext, stream: int, places: Iterator[Place]) -> Iterator[Finding]:
    (_, version, position) = first = last = next(places)
    count = 1
    for last in places:  # noqa: B007  # read after the loop
        count += 1
    if not Stream.objects.using(context.using).filter(pk=stream).exists():
        events = "1 event" if first == last else f"{count} events"
        until = "" if first == last else f" to version {last[1]} at position {last[2]}"
        where = f"version {version} at position {position}{until}"
        yield Finding("orphan", f"stream {stream} does not exist, but has {events}: {where}")
