"""The statements of the outbox in PostgreSQL."""

# candidate: the claimable messages with no earlier message of their key that is held back or held by another. Rows
#            that somebody else claims or settles at this moment are skipped.
# batch:     one whose worker has died, alone; else all up to the first such.
# The update then leaves out whatever follows an open message of its key that is not in the batch itself. Since that is
# judged on the statement's own snapshot, claims need not wait for each other: of two at once, the one that skipped the
# head of a key takes nothing of it.
CLAIM = """
WITH candidate AS MATERIALIZED (
    SELECT message.id, message.key, message.status = 'claimed' AS abandoned
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
batch AS MATERIALIZED (
    SELECT candidate.id, candidate.key
      FROM candidate, (SELECT min(id) AS first, min(id) FILTER (WHERE abandoned) AS suspect FROM candidate) AS bound
     WHERE candidate.id = bound.first OR bound.suspect IS NULL OR candidate.id < bound.suspect
),
claimed AS (
    UPDATE es_django_outboxmessage AS message
       SET status = 'claimed', attempts = message.attempts + 1, claimed_by = %(worker)s,
           claimed_until = clock_timestamp() + make_interval(secs => %(lease)s)
      FROM batch
     WHERE message.id = batch.id
       AND (batch.key IS NULL OR NOT EXISTS (
            SELECT FROM es_django_outboxmessage AS earlier
             WHERE earlier.destination = %(destination)s AND earlier.key = batch.key AND earlier.id < batch.id
               AND earlier.status IN ('pending', 'claimed')
               AND earlier.id NOT IN (SELECT id FROM batch)))
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
UPDATE es_django_outboxmessage AS message
   SET claimed_until = clock_timestamp() + make_interval(secs => %(lease)s)
  FROM jsonb_to_recordset(%(claims)s::jsonb) AS claim (id bigint, attempts int)
 WHERE message.id = claim.id AND message.attempts = claim.attempts AND message.status = 'claimed'
   AND message.claimed_by = %(worker)s AND message.claimed_until > clock_timestamp()
RETURNING message.id
"""
