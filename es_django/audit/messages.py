"""Check outbox messages: their events must exist, and a relay must take over expired claims."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from django.db.models.functions import Now

from es_django.audit.findings import AuditContext, Finding, in_pages, sql_pages
from es_django.models import OutboxMessage

LONG_AGO = timedelta(hours=1)
"""An expired claim of this age is a finding, because a running relay takes over expired claims within seconds."""

SOURCES = """
SELECT message.id, message.message_id, message.stream_id, message.stream_version, stream.category, stream.key,
       event.position
  FROM (SELECT id, message_id, stream_id, stream_version FROM es_django_outboxmessage
         WHERE id > %s ORDER BY id LIMIT 2000) AS message
  LEFT JOIN es_django_stream AS stream ON stream.id = message.stream_id
  LEFT JOIN es_django_event AS event ON event.stream_id = message.stream_id AND event.version = message.stream_version
 ORDER BY message.id
"""


def findings(context: AuditContext) -> Iterator[Finding]:
    yield from _sources(context)
    claimed = OutboxMessage.objects.using(context.using).filter(status=OutboxMessage.Status.CLAIMED)
    stuck = claimed.filter(claimed_until__lt=Now() - LONG_AGO)
    for page in in_pages(stuck, "message_id", "destination", "claimed_by", "claimed_until"):
        for _, message_id, destination, worker, until in page:
            claim = f"the claim of {worker} expired at {until.isoformat(timespec='seconds')}"
            problem = "no relay has taken it over. Is one running?"
            yield Finding("claim", f"message {message_id} to {destination}: {claim}, and {problem}")


def _sources(context: AuditContext) -> Iterator[Finding]:
    for page in sql_pages(context.using, SOURCES):
        for _, message_id, stream_id, version, category, key, position in page:
            context.counts["messages"] += 1
            if (stream_id is None and version is None) or position is not None:
                continue
            stream = f"stream {stream_id}" if category is None else f"stream {category!r} {key!r}"
            event = f"event {version} of {stream}"
            yield Finding("message", f"message {UUID(str(message_id))} refers to {event}, which does not exist")
        context.report(page[-1][0])
