"""The SQL of the event store in PostgreSQL.

PostgreSQL draws an event's position before the commit. The highest visible position therefore proves nothing about
the positions below it: another transaction may hold one of them and commit later. Floors show readers where to stop:

1. Before its first position, a writer takes a shared advisory lock. The key of the lock says "all my positions in this
   table are above this number". That number is the writer's floor. Shared locks never wait for each other.
2. PostgreSQL makes a commit visible before it releases the locks of the transaction.
3. A reader reads the last drawn position, then the lowest floor, and stops at the smaller of the two.
"""

from es_django.store.postgresql.sequences import POSITION_BITS, facts

# PostgreSQL computes these constants when it plans a statement, and again after the search_path has changed.
LOCK_NAMESPACE = "(32768 | (hashoid('es_django_event'::regclass) & 32767))::bigint"
"""The SQL expression for the upper bits of a floor's key: a hash of the event table's OID.

Each schema of a database may have tables of its own. The highest bit is always set, so that no small number is a floor.
"""

INLINE_PROJECTIONS_LOCK = "'es_django_projectioncheckpoint'::regclass::oid::int, 25971"
"""The key of the lock that guards which inline projections an append runs: the OID of their table, and a fixed number.

Appends that run inline projections share the lock. A rebuild takes the lock exclusively, so it waits for every append
that may have read the old statuses of the projections. This key has two numbers, so it never equals a floor, whose key
is one number.
"""

_SEQUENCE = "'es_django_event_position_seq'"

LAST_DRAWN = f"""
coalesce(pg_sequence_last_value({_SEQUENCE}),
         CASE WHEN has_sequence_privilege({_SEQUENCE}, 'USAGE, SELECT') THEN 0 ELSE currval({_SEQUENCE}) END)
"""
"""The SQL expression for the position that was drawn last, 0 if none was drawn.

Without rights on the sequence, `pg_sequence_last_value` returns NULL in newer versions of PostgreSQL. `currval` then
raises the error that older versions raise.

`pg_sequence_last_value` waits for a `nextval` that is under way. `SELECT last_value FROM <sequence>` does not wait, and
can for a moment return a number that is up to 31 too high. The reason is that `nextval` first stores the number up to
which it has logged, and then the number that it drew. A floor or an end of the log that is too high makes readers skip
events.
"""

_TAKE_FLOOR = f"pg_advisory_xact_lock_shared({LOCK_NAMESPACE} << {POSITION_BITS} | {LAST_DRAWN})"

# One floor per transaction and table is enough, because the first floor is the lowest. The setting lists the tables
# whose floors the transaction holds. A rollback to a savepoint undoes the setting together with the lock.
_FLOORS_HELD = "coalesce(current_setting('es_django.floors', true), '')"
_TABLE = "(',' || 'es_django_event'::regclass::oid::text || ',')"
_TAKE_FLOOR_ONCE = f"""
CASE WHEN strpos({_FLOORS_HELD}, {_TABLE}) = 0
     THEN CAST({_TAKE_FLOOR} AS text) || set_config('es_django.floors', {_FLOORS_HELD} || {_TABLE}, true) END
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

# Lock streams in the given order, which all transactions share, so that they cannot deadlock. The row of a stream
# without events is a placeholder: other writers that create the stream wait for the end of this transaction, even after
# the placeholder is removed again.
HOLD_STREAMS = """
INSERT INTO es_django_stream AS stream (category, key, version, created_at, updated_at)
SELECT given.category, given.key, 0, clock_timestamp(), clock_timestamp()
  FROM ROWS FROM (jsonb_to_recordset(%(streams)s::jsonb) AS (category text, key text))
       WITH ORDINALITY AS given (category, key, ordinal)
 ORDER BY given.ordinal
    ON CONFLICT (category, key) DO UPDATE SET version = stream.version
RETURNING stream.category, stream.key, stream.version
"""

REMOVE_PLACEHOLDERS = """
DELETE FROM es_django_stream AS stream
 USING jsonb_to_recordset(%(streams)s::jsonb) AS given (category text, key text)
 WHERE stream.category = given.category AND stream.key = given.key AND stream.version = 0
RETURNING stream.id
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

END_OF_LOG = facts("es_django_event", "position", "current_setting('transaction_isolation')", "pg_is_in_recovery()")

# The reader's own floors do not count, because the reader sees its own appends, and these commit or roll back together
# with its work. A floor counts only if its transaction writes to this very event table, because other tables can have
# the same namespace. PostgreSQL locks the table before it executes the append, so a floor without that lock was taken
# after this statement began, and is not below the last drawn position that the reader has read before.
LOWEST_FLOOR = f"""
WITH held AS MATERIALIZED (
    SELECT locktype, mode, relation, classid, objid, objsubid, virtualtransaction, pid
      FROM pg_locks
     WHERE locktype IN ('advisory', 'relation')
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
SELECT min(((classid::bigint << 32) | objid::bigint) & ((1::bigint << {POSITION_BITS}) - 1))
  FROM held
 WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> {POSITION_BITS - 32} = {LOCK_NAMESPACE}
   AND pid IS DISTINCT FROM pg_backend_pid()
   AND virtualtransaction IN (SELECT virtualtransaction
                                FROM held
                               WHERE locktype = 'relation' AND mode = 'RowExclusiveLock'
                                 AND relation = 'es_django_event'::regclass)
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

# The key is a hash of the stream table's OID, the category and the stream's key, in two halves. A key of two numbers
# never equals a floor, whose key is one number.
LOCK_STREAM = """
SELECT pg_advisory_xact_lock((hash >> 32)::int, ((hash << 32) >> 32)::int),
       set_config('es_django.stream_locks',
                  (coalesce(nullif(current_setting('es_django.stream_locks', true), ''), '0')::int + 1)::text, true)
  FROM (SELECT hashtextextended(%s, hashtextextended(%s, 'es_django_stream'::regclass::oid::bigint))) AS stream (hash)
"""

# The setting counts a lock twice that was taken twice, but these queries are needed only beyond the limit.
COUNT_LOCKS = """
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND pid = pg_backend_pid()
"""

SET_NUMBER_OF_LOCKS = "SELECT set_config('es_django.stream_locks', %s, true)"

HOLD_INLINE_PROJECTIONS = f"SELECT pg_advisory_xact_lock({INLINE_PROJECTIONS_LOCK})"

GET_LOCK_TIMEOUT = "SELECT current_setting('lock_timeout')"

SET_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, true)"
