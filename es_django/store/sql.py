"""The statements that PostgreSQL and SQLite share."""

# The subquery finds the stream's id first, so the index on (stream_id, version) gives the events in order, and a page
# reads only its own events. With a join, the database would read and sort the whole stream for each page.
STREAM = """
SELECT event.position, event.version, event.type, event.schema_version, CAST(event.data AS text),
       CAST(event.metadata AS text), event.correlation_id, event.causation_id, event.event_id, event.recorded_at
  FROM es_django_event AS event
 WHERE event.stream_id = (SELECT id FROM es_django_stream WHERE category = %(category)s AND key = %(key)s)
   AND event.version > %(after)s AND event.version < %(before)s
 ORDER BY event.version LIMIT %(limit)s
"""

STREAM_BACKWARDS = """
SELECT event.position, event.version, event.type, event.schema_version, CAST(event.data AS text),
       CAST(event.metadata AS text), event.correlation_id, event.causation_id, event.event_id, event.recorded_at
  FROM es_django_event AS event
 WHERE event.stream_id = (SELECT id FROM es_django_stream WHERE category = %(category)s AND key = %(key)s)
   AND event.version > %(after)s AND event.version < %(before)s
 ORDER BY event.version DESC LIMIT %(limit)s
"""

TAIL = """
SELECT event.version, event.type, event.schema_version, CAST(event.data AS text)
  FROM es_django_event AS event
 WHERE event.stream_id = (SELECT id FROM es_django_stream WHERE category = %(category)s AND key = %(key)s)
   AND event.version > %(after)s
 ORDER BY event.version LIMIT %(limit)s
"""

SNAPSHOT_AND_TAIL = """
WITH snapshot AS (
    SELECT snapshot.version, snapshot.state
      FROM es_django_snapshot AS snapshot JOIN es_django_stream AS stream ON stream.id = snapshot.stream_id
     WHERE stream.category = %(category)s AND stream.key = %(key)s
       AND snapshot.schema = %(schema)s AND snapshot.version <= stream.version
)
SELECT version, NULL AS type, NULL AS schema_version, state AS data FROM snapshot
 UNION ALL
SELECT * FROM (
    SELECT event.version, event.type, event.schema_version, CAST(event.data AS text) AS data
      FROM es_django_event AS event
     WHERE event.stream_id = (SELECT id FROM es_django_stream WHERE category = %(category)s AND key = %(key)s)
       AND event.version > coalesce((SELECT version FROM snapshot), 0)
     ORDER BY event.version LIMIT %(limit)s) AS tail
 ORDER BY version
"""

PROJECTIONS_RUN_FROM_CHECKPOINT = "SELECT name FROM es_django_projectioncheckpoint WHERE status <> 'inline'"
