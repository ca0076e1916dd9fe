"""The SQL of the event store in PostgreSQL.

PostgreSQL draws an event's position before the commit. The highest visible position therefore proves nothing about
the positions below it: another transaction may hold one of them and commit later. Floors show readers where to stop:

1. Before its first position, a writer takes a shared advisory lock. The key of the lock says "all my positions are
   above this number". That number is the writer's floor. Shared locks never wait for each other.
2. PostgreSQL makes a commit visible before it releases the locks of the transaction.
3. A reader reads the last drawn position, then the lowest floor, and stops at the smaller of the two.
"""

LOCK_NAMESPACE = 0x6573
"""The upper bits of a floor's key. They distinguish floors from all other advisory locks whose key is one number."""

POSITION_BITS = 47
"""The lower bits of a floor's key, which hold the position."""

INLINE_PROJECTIONS_LOCK = f"{LOCK_NAMESPACE}, 5"
"""The key of the lock that guards which inline projections an append runs.

Appends that run inline projections share the lock. A rebuild takes the lock exclusively, so it waits for every append
that may have read the old statuses of the projections. This key has two numbers, so it never equals a floor, whose key
is one number.
"""

LAST_DRAWN = "coalesce(pg_sequence_last_value('es_django_event_position_seq'), 0)"
"""The SQL expression for the position that was drawn last, 0 if none was drawn.

`pg_sequence_last_value` waits for a `nextval` that is under way. `SELECT last_value FROM <sequence>` does not wait, and
can for a moment return a number that is up to 31 too high. The reason is that `nextval` first stores the number up to
which it has logged, and then the number that it drew. A floor or an end of the log that is too high makes readers skip
events.
"""

_TAKE_FLOOR = f"pg_advisory_xact_lock_shared({LOCK_NAMESPACE << POSITION_BITS} | {LAST_DRAWN})"

# One floor per transaction is enough, because the first floor is the lowest. A rollback to a savepoint undoes the
# setting together with the lock.
_TAKE_FLOOR_ONCE = f"""
CASE WHEN coalesce(current_setting('es_django.floor', true), '') = ''
     THEN CAST({_TAKE_FLOOR} AS text) || set_config('es_django.floor', 'held', true) END
"""

# An append is one statement, assembled from the parts below. It inserts events only from a join with the one row of
# `floor`, so the lock is held before the first position is drawn.
FLOOR = f"floor AS MATERIALIZED (SELECT {_TAKE_FLOOR})"
FLOOR_ONCE = f"floor AS MATERIALIZED (SELECT {_TAKE_FLOOR_ONCE})"
FLOOR_ONCE_RUNS_INLINE = f"""
floor AS MATERIALIZED (SELECT {_TAKE_FLOOR_ONCE}, pg_advisory_xact_lock_shared({INLINE_PROJECTIONS_LOCK}))
"""

# The version check has three forms: for a new stream, for a stream that may be new, and for a stream that must exist.
# Each form advances the version, and returns a row only if the writer may go on.
CREATE_STREAM = """
stream AS (
    INSERT INTO es_django_stream AS stream (category, key, version, created_at, updated_at)
    VALUES (%(category)s::text, %(key)s::text, %(count)s::bigint, clock_timestamp(), clock_timestamp())
        ON CONFLICT (category, key) DO NOTHING
    RETURNING stream.id, stream.version
)
"""

CREATE_OR_ADVANCE_STREAM = """
stream AS (
    INSERT INTO es_django_stream AS stream (category, key, version, created_at, updated_at)
    VALUES (%(category)s::text, %(key)s::text, %(count)s::bigint, clock_timestamp(), clock_timestamp())
        ON CONFLICT (category, key) DO UPDATE
       SET version = stream.version + excluded.version, updated_at = excluded.updated_at
     WHERE stream.archived_at IS NULL
    RETURNING stream.id, stream.version
)
"""

ADVANCE_STREAM = """
stream AS (
    UPDATE es_django_stream AS stream
       SET version = stream.version + %(count)s::bigint, updated_at = clock_timestamp()
     WHERE stream.category = %(category)s::text AND stream.key = %(key)s::text
       AND stream.version = coalesce(%(version)s::bigint, stream.version) AND stream.archived_at IS NULL
    RETURNING stream.id, stream.version
)
"""

# An event is inserted only if the version check returned a row.
INSERT_EVENT = """
event AS (
    INSERT INTO es_django_event (stream_id, version, type, schema_version, data, metadata, correlation_id,
                                 causation_id, event_id, recorded_at)
    SELECT stream.id, stream.version, %(type)s::text, %(schema_version)s::int, %(data)s::jsonb, %(metadata)s::jsonb,
           %(correlation_id)s::text, %(causation_id)s::text, %(event_id)s::uuid, clock_timestamp()
      FROM stream
     CROSS JOIN floor
    RETURNING position, version, recorded_at
)
"""

INSERT_EVENTS = """
event AS (
    INSERT INTO es_django_event (stream_id, version, type, schema_version, data, metadata, correlation_id,
                                 causation_id, event_id, recorded_at)
    SELECT stream.id, stream.version - %(count)s::bigint + new.ordinal, new.type, new.schema_version, new.data,
           %(metadata)s::jsonb, %(correlation_id)s::text, %(causation_id)s::text, new.event_id, clock_timestamp()
      FROM stream
     CROSS JOIN floor
     CROSS JOIN ROWS FROM (jsonb_to_recordset(%(events)s::jsonb)
           AS (type text, schema_version int, data jsonb, event_id uuid))
           WITH ORDINALITY AS new (type, schema_version, data, event_id, ordinal)
     ORDER BY new.ordinal
    RETURNING position, version, recorded_at
)
"""

# The row of the stream stays locked until the commit, so a newer snapshot cannot exist. While two
# releases run at once, each may use its own snapshot schema, so the newest snapshot of another schema stays. Older ones
# are deleted, because each release would leave one behind.
PUT_SNAPSHOT = """
snapshot AS (
    INSERT INTO es_django_snapshot (stream_id, version, schema, state, taken_at)
    SELECT stream.id, stream.version, %(schema)s::text, %(state)s::text, clock_timestamp()
      FROM stream
        ON CONFLICT (stream_id, schema) DO UPDATE
       SET version = excluded.version, state = excluded.state, taken_at = excluded.taken_at
),
pruned AS (
    DELETE FROM es_django_snapshot AS old USING stream
     WHERE old.stream_id = stream.id AND old.schema <> %(schema)s::text
       AND old.version < (SELECT max(other.version) FROM es_django_snapshot AS other
                           WHERE other.stream_id = stream.id AND other.schema <> %(schema)s::text)
)
"""

INSERT_MESSAGES = """
message AS (
    INSERT INTO es_django_outboxmessage (message_id, destination, type, key, data, headers, stream_id, stream_version,
                                         status, attempts, last_error, available_at, created_at)
    SELECT new.message_id, new.destination, new.type, new.key, coalesce(new.data, 'null'), new.headers, stream.id,
           stream.version - %(count)s::bigint + new.event, 'pending', 0, '',
           clock_timestamp() + make_interval(secs => new.delay), clock_timestamp()
      FROM stream
     CROSS JOIN ROWS FROM (jsonb_to_recordset(%(messages)s::jsonb)
           AS (message_id uuid, destination text, type text, key text, data jsonb, headers jsonb, event int,
               delay float8))
           WITH ORDINALITY AS new (message_id, destination, type, key, data, headers, event, delay, ordinal)
     ORDER BY new.ordinal
)
"""

SELECT_STORED = "SELECT position, version, recorded_at FROM event"

END_OF_LOG = f"""
SELECT {LAST_DRAWN}, current_setting('transaction_isolation'), pg_is_in_recovery()
"""

# The reader's own floors do not count, because the reader sees its own appends, and these commit or roll back together
# with its work.
LOWEST_FLOOR = f"""
SELECT min(((classid::bigint << 32) | objid::bigint) & ((1::bigint << {POSITION_BITS}) - 1))
  FROM pg_locks
 WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> {POSITION_BITS - 32} = {LOCK_NAMESPACE}
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND pid IS DISTINCT FROM pg_backend_pid()
"""

# Similar streams often have neighbouring ids. The multiplication spreads them over all partitions.
SELECT_LOG = """
SELECT event.position, event.version, event.type, event.schema_version, CAST(event.data AS text),
       CAST(event.metadata AS text), event.correlation_id, event.causation_id, event.event_id, event.recorded_at,
       stream.category, stream.key
  FROM es_django_event AS event JOIN es_django_stream AS stream ON stream.id = event.stream_id
 WHERE event.position > %(after)s AND event.position <= %(end)s
   AND (%(categories)s::text[] IS NULL OR stream.category = ANY(%(categories)s::text[]))
   AND (%(types)s::text[] IS NULL OR event.type = ANY(%(types)s::text[]))
   AND (%(partitions)s = 1
        OR mod(((event.stream_id & 2147483647) * 2654435761) >> 16, %(partitions)s) = %(partition)s)
 ORDER BY event.position LIMIT %(limit)s
"""

SELECT_MANY = """
SELECT stream.key, snapshot.version, NULL AS type, NULL AS schema_version, snapshot.state AS data
  FROM es_django_stream AS stream
  JOIN es_django_snapshot AS snapshot
    ON snapshot.stream_id = stream.id AND snapshot.schema = %(schema)s AND snapshot.version <= stream.version
 WHERE stream.category = %(category)s AND stream.key = ANY(%(keys)s)
 UNION ALL
SELECT stream.key, event.version, event.type, event.schema_version, event.data::text
  FROM es_django_stream AS stream
  LEFT JOIN es_django_snapshot AS snapshot
    ON snapshot.stream_id = stream.id AND snapshot.schema = %(schema)s AND snapshot.version <= stream.version
  JOIN es_django_event AS event ON event.stream_id = stream.id AND event.version > coalesce(snapshot.version, 0)
 WHERE stream.category = %(category)s AND stream.key = ANY(%(keys)s)
 ORDER BY 1, 2
"""

SEND_MESSAGE = """
INSERT INTO es_django_outboxmessage (message_id, destination, type, key, data, headers, status, attempts, last_error,
                                     available_at, created_at)
VALUES (%(message_id)s, %(destination)s, %(type)s, %(key)s, %(data)s, %(headers)s, 'pending', 0, '',
        clock_timestamp() + make_interval(secs => %(delay)s), clock_timestamp())
    ON CONFLICT (message_id) DO NOTHING
RETURNING id
"""

# This key has two numbers, so it never equals a floor, whose key is one number.
LOCK_STREAM = "SELECT pg_advisory_xact_lock(hashtext(%s), hashtext(%s))"

HOLD_INLINE_PROJECTIONS = f"SELECT pg_advisory_xact_lock({INLINE_PROJECTIONS_LOCK})"

GET_LOCK_TIMEOUT = "SELECT current_setting('lock_timeout')"

SET_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, true)"
