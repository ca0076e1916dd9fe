"""Find events that the current code cannot read."""

from collections.abc import Iterator

import msgspec

from es_django.audit.findings import AuditContext, Finding, sql_pages
from es_django.core.errors import EsDjangoError
from es_django.core.registry import registry
from es_django.core.streams import StreamId

EVENTS = """
SELECT event.position, stream.category, stream.key, event.version, event.type, event.schema_version, event.data,
       event.metadata
  FROM es_django_event AS event JOIN es_django_stream AS stream ON stream.id = event.stream_id
 WHERE event.position > %s ORDER BY event.position LIMIT 500
"""


def findings(context: AuditContext) -> Iterator[Finding]:
    for page in sql_pages(context.using, EVENTS):
        for position, category, key, version, type, schema_version, data, metadata in page:
            try:
                registry.decode(StreamId(category, key), version, type, schema_version, data)
                if metadata != "{}":
                    msgspec.json.decode(metadata, type=dict[str, str])
            except EsDjangoError as error:
                yield Finding("unreadable", f"position {position}: {error}")
            except msgspec.MsgspecError as error:
                where = f"position {position}: metadata of event {version} of stream {category!r} {key!r}"
                yield Finding("unreadable", f"{where}: {error}")
        context.counts["events"] += len(page)
        context.report(page[-1][0])
