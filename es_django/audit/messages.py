"""Outbox messages: whether the event that one tells of exists, and whether anybody takes over what a worker left."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from django.db import connections
from django.db.models.functions import Now

from es_django.audit.findings import Finding, Watch, in_pages
from es_django.models import OutboxMessage

LONG_AGO = timedelta(hours=1)
"""A claim that ran out before that should have been taken over: a relay does it at once, a sweep in seconds."""

SOURCES = """
SELECT message.id, message.message_id, message.stream_id, message.stream_version, stream.category, stream.key,
       event.position
  FROM (SELECT id, message_id, stream_id, stream_version FROM es_django_outboxmessage
         WHERE id > %s ORDER BY id LIMIT 2000) AS message
  LEFT JOIN es_django_stream AS stream ON stream.id = message.stream_id
  LEFT JOIN es_django_event AS event ON event.stream_id = message.stream_id AND event.version = message.stream_version
 ORDER BY message.id
"""


def findings(watch: Watch) -> Iterator[Finding]:
    yield from _sources(watch)
    claimed = OutboxMessage.objects.using(watch.using).filter(status=OutboxMessage.Status.CLAIMED)
    stuck = claimed.filter(claimed_until__lt=Now() - LONG_AGO)
    for page in in_pages(stuck, "message_id", "destination", "claimed_by", "claimed_until"):
        for _, message_id, destination, worker, until in page:
            ran_out = f"ran out at {until.isoformat(timespec='seconds')}, and nobody has taken it over"
            yield Finding("claim", f"message {message_id} to {destination}: the claim of {worker} {ran_out}")


def _sources(watch: Watch) -> Iterator[Finding]:
    last = -(2**63)
    while True:
        with connections[watch.using].cursor() as cursor:
            cursor.execute(SOURCES, [last])
            page = cursor.fetchall()
        if not page:
            return
        for _, message_id, stream_id, version, category, key, position in page:
            watch.counts["messages"] += 1
            if (stream_id is None and version is None) or position is not None:
                continue
            stream = f"stream {stream_id}" if category is None else f"stream {category!r} {key!r}"
            of = f"version {version} of {stream}"
            yield Finding("message", f"{UUID(str(message_id))} tells of {of}, which does not exist")
        last = page[-1][0]
        watch.at(last)
