"""The statements of the outbox in PostgreSQL."""

# Two claims of one destination at once would each see the other's rows as free, and split a key between them.
LOCK_DESTINATION = """
SELECT pg_advisory_xact_lock(%s, hashtext(%s))
"""

# candidate: the claimable messages with no earlier message of their key that is held back or held by another. Rows
#            that somebody is settling at this moment are skipped.
# The update then leaves out whatever follows an open message of its key that was not a candidate itself.
CLAIM = """
WITH candidate AS MATERIALIZED (
    SELECT message.id, message.key
      FROM es_django_outboxmessage AS message
     WHERE message.destination = %(destination)s
       AND message.status IN ('pending', 'claimed')
       AND (message.status = 'claimed' OR message.available_at <= clock_timestamp())
       AND (message.status = 'pending' OR message.claimed_until <= clock_timestamp())
       AND (message.key IS NULL OR NOT EXISTS (
            SELECT FROM es_django_outboxmessage AS earlier
             WHERE earlier.destination = message.destination AND earlier.key = message.key AND earlier.id < message.id
               AND earlier.status IN ('pending', 'claimed')
               AND ((earlier.status = 'pending' AND earlier.available_at > clock_timestamp())
                 OR (earlier.status = 'claimed' AND earlier.claimed_until > clock_timestamp()))))
     ORDER BY message.id
     LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED
),
claimed AS (
    UPDATE es_django_outboxmessage AS message
       SET status = 'claimed', attempts = message.attempts + 1, claimed_by = %(worker)s,
           claimed_until = clock_timestamp() + make_interval(secs => %(lease)s)
      FROM candidate
     WHERE message.id = candidate.id
       AND (candidate.key IS NULL OR NOT EXISTS (
            SELECT FROM es_django_outboxmessage AS earlier
             WHERE earlier.destination = %(destination)s AND earlier.key = candidate.key AND earlier.id < candidate.id
               AND earlier.status IN ('pending', 'claimed')
               AND earlier.id NOT IN (SELECT id FROM candidate)))
    RETURNING message.*
)
SELECT claimed.id, claimed.attempts, claimed.message_id, claimed.type, claimed.key, claimed.data, claimed.headers,
       stream.category, stream.key, claimed.stream_version
  FROM claimed LEFT JOIN es_django_stream AS stream ON stream.id = claimed.stream_id
 ORDER BY claimed.id
"""

SETTLE = """
UPDATE es_django_outboxmessage AS message
   SET status = settlement.status, attempts = settlement.counted, claimed_by = NULL, claimed_until = NULL,
       last_error = coalesce(nullif(settlement.error, ''), message.last_error),
       available_at = CASE WHEN settlement.delay > 0 THEN clock_timestamp() + make_interval(secs => settlement.delay)
                           ELSE message.available_at END,
       published_at = CASE WHEN settlement.status = 'published' THEN clock_timestamp() END,
       failed_at = CASE WHEN settlement.status = 'dead' THEN clock_timestamp() END
  FROM jsonb_to_recordset(%(settlements)s::jsonb)
       AS settlement (id bigint, attempts int, counted int, status text, error text, delay float8)
 WHERE message.id = settlement.id AND message.attempts = settlement.attempts AND message.status = 'claimed'
   AND message.claimed_by = %(worker)s AND message.claimed_until > clock_timestamp()
RETURNING message.id
"""

EXTEND = """
UPDATE es_django_outboxmessage
   SET claimed_until = clock_timestamp() + make_interval(secs => %(lease)s)
 WHERE destination = %(destination)s AND status = 'claimed' AND claimed_by = %(worker)s
   AND claimed_until > clock_timestamp()
"""
