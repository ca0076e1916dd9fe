"""The statements of the outbox in PostgreSQL."""

# The parts of a claim. A message is open while it is pending or claimed.
#
# suspect:   the first abandoned message with %(suspect_from)s or more attempts, if it is the first open message of its
#            key. It may have killed its workers, so it is claimed alone.
# abandoned: if there is no suspect, the messages whose worker died. A message is left out if the first open message of
#            its key is still held by a worker, or waits.
# busy:      the keys whose first open message is held by another worker, or is not due yet. They are looked up once, so
#            that a claim skips a long queue behind such a message fast. At most 1,000 held and 1,000 waiting messages
#            are looked up, so that their keys always fit a hash table. For any other key, each due message looks up the
#            first open message of its key.
# due:       if there is no suspect and no abandoned message, the messages that are due. A message is left out if the
#            first open message of its key cannot be claimed. Rows that another transaction is claiming or settling are
#            skipped.
# batch:     of these, the first messages that have %(max_bytes)s bytes of data together, and at least one. The sizes
#            are a column, so the data of the others is not read.
# hole:      for each key of the batch, the first open message that is not in the batch, because it is held back or was
#            skipped.
#
# A claim leaves out every message behind a hole. Two simultaneous claims never wait for each other: each sees the holes
# in its own snapshot. So a claim that skipped the first message of a key takes no other message of that key.
CLAIM = """
WITH suspect AS MATERIALIZED (
    SELECT message.id, message.key, message.size
      FROM es_django_outboxmessage AS message
     WHERE message.destination = %(destination)s AND message.status = 'claimed'
       AND message.claimed_until <= clock_timestamp() AND message.attempts >= %(suspect_from)s
       AND (message.key IS NULL OR message.id = (
            SELECT head.id
              FROM es_django_outboxmessage AS head
             WHERE head.destination = %(destination)s AND head.key = message.key
               AND head.status IN ('pending', 'claimed')
             ORDER BY head.id LIMIT 1))
     ORDER BY message.id
     LIMIT 1
       FOR UPDATE SKIP LOCKED
),
abandoned AS MATERIALIZED (
    SELECT message.id, message.key, message.size
      FROM es_django_outboxmessage AS message
     WHERE message.destination = %(destination)s AND message.status = 'claimed'
       AND message.claimed_until <= clock_timestamp() AND message.attempts < %(suspect_from)s
       AND (message.key IS NULL OR (
            SELECT head.status = 'claimed' AND head.claimed_until <= clock_timestamp()
              FROM es_django_outboxmessage AS head
             WHERE head.destination = %(destination)s AND head.key = message.key
               AND head.status IN ('pending', 'claimed')
             ORDER BY head.id LIMIT 1))
       AND NOT EXISTS (SELECT FROM suspect)
     ORDER BY message.id
     LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED
),
busy AS MATERIALIZED (
    SELECT held.key
      FROM ((SELECT key, id
               FROM es_django_outboxmessage
              WHERE destination = %(destination)s AND key IS NOT NULL
                AND status = 'claimed' AND claimed_until > clock_timestamp()
              LIMIT 1000)
            UNION ALL
            (SELECT key, id
               FROM es_django_outboxmessage
              WHERE destination = %(destination)s AND key IS NOT NULL AND status = 'pending'
                AND available_at > created_at AND available_at > statement_timestamp()
              ORDER BY available_at
              LIMIT 1000)
           ) AS held
     WHERE held.id = (
            SELECT head.id
              FROM es_django_outboxmessage AS head
             WHERE head.destination = %(destination)s AND head.key = held.key
               AND head.status IN ('pending', 'claimed')
             ORDER BY head.id LIMIT 1)
),
due AS MATERIALIZED (
    SELECT message.id, message.key, message.size
      FROM es_django_outboxmessage AS message
     WHERE message.destination = %(destination)s AND message.status = 'pending'
       AND message.available_at <= clock_timestamp()
       AND (message.key IS NULL OR message.key NOT IN (SELECT key FROM busy) AND (
            SELECT head.status = 'pending' AND head.available_at <= clock_timestamp()
              FROM es_django_outboxmessage AS head
             WHERE head.destination = %(destination)s AND head.key = message.key
               AND head.status IN ('pending', 'claimed')
             ORDER BY head.id LIMIT 1))
       AND NOT EXISTS (SELECT FROM suspect) AND NOT EXISTS (SELECT FROM abandoned)
     ORDER BY message.id
     LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED
),
candidate AS MATERIALIZED (
    SELECT id, key, size FROM suspect
     UNION ALL SELECT id, key, size FROM abandoned
     UNION ALL SELECT id, key, size FROM due
),
batch AS MATERIALIZED (
    SELECT id, key
      FROM (SELECT id, key, size, sum(size) OVER (ORDER BY id) AS total FROM candidate) AS summed
     WHERE total <= %(max_bytes)s OR total = size
),
hole AS MATERIALIZED (
    SELECT wanted.key, (
            SELECT message.id
              FROM es_django_outboxmessage AS message
             WHERE message.destination = %(destination)s AND message.key = wanted.key
               AND message.status IN ('pending', 'claimed') AND message.id NOT IN (SELECT id FROM batch)
             ORDER BY message.id LIMIT 1) AS id
      FROM (SELECT DISTINCT key FROM batch WHERE key IS NOT NULL) AS wanted
),
claimed AS (
    UPDATE es_django_outboxmessage AS message
       SET status = 'claimed', attempts = message.attempts + 1, claimed_by = %(worker)s,
           claimed_until = clock_timestamp() + make_interval(secs => %(lease)s)
      FROM batch LEFT JOIN hole ON hole.key = batch.key
     WHERE message.id = batch.id AND (hole.id IS NULL OR batch.id < hole.id)
    RETURNING message.*
)
SELECT claimed.id, claimed.attempts, claimed.message_id, claimed.type, claimed.key, claimed.data, claimed.headers,
       stream.category, stream.key, claimed.stream_version, claimed.last_error, current_setting('search_path')
  FROM claimed LEFT JOIN es_django_stream AS stream ON stream.id = claimed.stream_id
 ORDER BY claimed.id
"""

# SETTLE, EXTEND and the operators' transitions all lock their rows in the order of ids. Without a common order, they
# could deadlock.
SETTLE = """
WITH settlement AS MATERIALIZED (
    SELECT given.*
      FROM jsonb_to_recordset(%(settlements)s::jsonb)
           AS given (id bigint, attempts int, counted int, status text, error text, delay float8)
      JOIN es_django_outboxmessage AS message ON message.id = given.id
     WHERE message.attempts = given.attempts AND message.status = 'claimed'
       AND message.claimed_by = %(worker)s AND message.claimed_until > clock_timestamp()
     ORDER BY message.id
       FOR NO KEY UPDATE OF message
)
UPDATE es_django_outboxmessage AS message
   SET status = settlement.status, attempts = settlement.counted, claimed_by = NULL, claimed_until = NULL,
       last_error = coalesce(nullif(settlement.error, ''), message.last_error),
       available_at = CASE WHEN settlement.delay > 0 THEN clock_timestamp() + make_interval(secs => settlement.delay)
                           ELSE message.available_at END,
       published_at = CASE WHEN settlement.status = 'published' THEN clock_timestamp() END,
       failed_at = CASE WHEN settlement.status = 'dead' THEN clock_timestamp() END
  FROM settlement
 WHERE message.id = settlement.id
RETURNING message.id
"""

EXTEND = """
WITH claim AS MATERIALIZED (
    SELECT given.id
      FROM jsonb_to_recordset(%(claims)s::jsonb) AS given (id bigint, attempts int)
      JOIN es_django_outboxmessage AS message ON message.id = given.id
     WHERE message.attempts = given.attempts AND message.status = 'claimed'
       AND message.claimed_by = %(worker)s AND message.claimed_until > clock_timestamp()
     ORDER BY message.id
       FOR NO KEY UPDATE OF message
)
UPDATE es_django_outboxmessage AS message
   SET claimed_until = clock_timestamp() + make_interval(secs => %(lease)s)
  FROM claim
 WHERE message.id = claim.id
RETURNING message.id
"""
