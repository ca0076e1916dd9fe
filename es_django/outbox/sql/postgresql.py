"""The statements of the outbox in PostgreSQL."""

# suspect:   the first message whose worker has died after so many attempts, if it is the first open one of its key. It
#            comes alone.
# abandoned: else those whose worker has died, unless the first open message of their key is still held, or waits.
# busy:      keys whose first open message another worker has, or waits; looked up once, so that a long queue behind it
#            is passed over fast. Only so many, so that they always fit a hash table: of the keys beyond them the first
#            open message is looked up for each that is due.
# due:       else those that are due, unless the first open message of their key cannot be had. Rows that somebody else
#            claims or settles at this moment are skipped.
# hole:      the first open message of each of these keys that is not among them, since it is held back, or was skipped.
# What follows a hole is left out. Since that is judged on the statement's own snapshot, claims need not wait for each
# other: of two at once, the one that skipped the head of a key takes nothing of it.
CLAIM = """
WITH suspect AS MATERIALIZED (
    SELECT message.id, message.key
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
    SELECT message.id, message.key
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
    SELECT message.id, message.key
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
batch AS MATERIALIZED (
    SELECT id, key FROM suspect UNION ALL SELECT id, key FROM abandoned UNION ALL SELECT id, key FROM due
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
       stream.category, stream.key, claimed.stream_version, claimed.last_error
  FROM claimed LEFT JOIN es_django_stream AS stream ON stream.id = claimed.stream_id
 ORDER BY claimed.id
"""

# Both lock their rows in the order of ids, as operators' moves do: else they could wait for each other for ever.
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
