"""The SQL of the event store in SQLite. Each step of PostgreSQL's append statement is a statement of its own."""

_TIME_FORMAT = "'%%Y-%%m-%%d %%H:%%M:%%f'"
"""The format of Django's DateTimeField in SQLite, with milliseconds. A cursor needs each % doubled."""

NOW = f"strftime({_TIME_FORMAT}, 'now')"
"""The SQL expression for the current time. Within one statement, SQLite always returns the same time."""


def seconds_from_now(seconds: str) -> str:
    """Return the SQL expression for a time in the future; `seconds` is an SQL expression too."""
    return f"strftime({_TIME_FORMAT}, 'now', '+' || {seconds} || ' seconds')"


FIND_STREAM = """
SELECT id, version FROM es_django_stream WHERE category = %s AND key = %s
"""

BECOME_WRITER = "UPDATE es_django_stream SET version = version WHERE id IS NULL"

CREATE_STREAM = f"""
INSERT INTO es_django_stream (category, key, version, created_at, updated_at)
VALUES (%s, %s, %s, {NOW}, {NOW})
"""

ADVANCE_STREAM = f"""
UPDATE es_django_stream SET version = version + %s, updated_at = {NOW}
 WHERE id = %s AND archived_at IS NULL
"""

INSERT_EVENT = f"""
INSERT INTO es_django_event (stream_id, version, type, schema_version, data, metadata, correlation_id, causation_id,
                             event_id, recorded_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, {NOW})
"""

INSERT_MESSAGE = f"""
INSERT INTO es_django_outboxmessage (message_id, destination, type, key, data, headers, stream_id, stream_version,
                                     status, attempts, last_error, available_at, created_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'pending', 0, '',
        {seconds_from_now("%s")}, {NOW})
"""

PUT_SNAPSHOT = f"""
INSERT INTO es_django_snapshot (stream_id, version, schema, state, taken_at)
VALUES (%s, %s, %s, %s, {NOW})
    ON CONFLICT (stream_id, schema) DO UPDATE
   SET version = excluded.version, state = excluded.state, taken_at = excluded.taken_at
"""

# While two releases run at once, each may use its own snapshot schema, so the newest snapshot of another schema stays.
PRUNE_SNAPSHOTS = """
DELETE FROM es_django_snapshot
 WHERE stream_id = %(stream)s AND schema <> %(schema)s
   AND version < (SELECT max(version) FROM es_django_snapshot WHERE stream_id = %(stream)s AND schema <> %(schema)s)
"""

KNOWN_EVENTS = """
SELECT event_id FROM es_django_event WHERE event_id IN (SELECT value FROM json_each(%s))
"""

KNOWN_MESSAGES = """
SELECT message_id FROM es_django_outboxmessage WHERE message_id IN (SELECT value FROM json_each(%s))
"""

SELECT_STORED = """
SELECT position, version, recorded_at FROM es_django_event WHERE stream_id = %s AND version > %s ORDER BY version
"""

SELECT_LOG = """
SELECT event.position, event.version, event.type, event.schema_version, event.data, event.metadata,
       event.correlation_id, event.causation_id, event.event_id, event.recorded_at, stream.category, stream.key
  FROM es_django_event AS event JOIN es_django_stream AS stream ON stream.id = event.stream_id
 WHERE event.position > %(after)s AND event.position <= %(end)s
   AND (%(categories)s IS NULL OR stream.category IN (SELECT value FROM json_each(%(categories)s)))
   AND (%(types)s IS NULL OR event.type IN (SELECT value FROM json_each(%(types)s)))
   AND (%(partitions)s = 1 OR (((event.stream_id & 2147483647) * 2654435761) >> 16) %% %(partitions)s = %(partition)s)
 ORDER BY event.position LIMIT %(limit)s
"""

SELECT_MANY = """
SELECT stream.key, snapshot.version, NULL AS type, NULL AS schema_version, snapshot.state AS data
  FROM es_django_stream AS stream
  JOIN es_django_snapshot AS snapshot
    ON snapshot.stream_id = stream.id AND snapshot.schema = %(schema)s AND snapshot.version <= stream.version
 WHERE stream.category = %(category)s AND stream.key IN (SELECT value FROM json_each(%(keys)s))
 UNION ALL
SELECT stream.key, event.version, event.type, event.schema_version, event.data
  FROM es_django_stream AS stream
  LEFT JOIN es_django_snapshot AS snapshot
    ON snapshot.stream_id = stream.id AND snapshot.schema = %(schema)s AND snapshot.version <= stream.version
  JOIN es_django_event AS event ON event.stream_id = stream.id AND event.version > coalesce(snapshot.version, 0)
 WHERE stream.category = %(category)s AND stream.key IN (SELECT value FROM json_each(%(keys)s))
 ORDER BY 1, 2
"""

SEND_MESSAGE = f"""
INSERT INTO es_django_outboxmessage (message_id, destination, type, key, data, headers, status, attempts, last_error,
                                     available_at, created_at)
VALUES (%(message_id)s, %(destination)s, %(type)s, %(key)s, %(data)s, %(headers)s, 'pending', 0, '',
        {seconds_from_now("%(delay)s")},
        {NOW})
    ON CONFLICT (message_id) DO NOTHING
RETURNING id
"""

# SQLite draws the number after the larger one of both. Without sqlite_sequence, it would draw the position of a deleted
# event again.
END_OF_LOG = """
SELECT coalesce(max(position), 0),
       coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = 'es_django_event'), 0)
  FROM es_django_event
"""
