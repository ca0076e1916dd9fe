"""The statements of the outbox in SQLite, each run inside BEGIN IMMEDIATE, so that no other writer is in between."""

# A message whose worker has died is taken alone, else all up to the first such.
CLAIM = """
WITH candidate AS MATERIALIZED (
    SELECT message.id, message.status = 'claimed' AS abandoned
      FROM es_django_outboxmessage AS message
     WHERE message.destination = %(destination)s
       AND message.status IN ('pending', 'claimed')
       AND (message.status = 'claimed' OR message.available_at <= strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now'))
       AND (message.status = 'pending' OR message.claimed_until <= strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now'))
       AND (message.key IS NULL OR NOT EXISTS (
            SELECT 1 FROM es_django_outboxmessage AS earlier
             WHERE earlier.destination = message.destination AND earlier.key = message.key AND earlier.id < message.id
               AND earlier.status IN ('pending', 'claimed')
               AND ((earlier.status = 'pending'
                     AND earlier.available_at > strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now'))
                 OR (earlier.status = 'claimed'
                     AND earlier.claimed_until > strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')))))
     ORDER BY message.id
     LIMIT %(limit)s
),
bound AS MATERIALIZED (
    SELECT min(id) AS first, min(id) FILTER (WHERE abandoned) AS suspect FROM candidate
)
UPDATE es_django_outboxmessage
   SET status = 'claimed', attempts = attempts + 1, claimed_by = %(worker)s,
       claimed_until = strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '+' || %(lease)s || ' seconds')
 WHERE id IN (
    SELECT candidate.id
      FROM candidate, bound
     WHERE candidate.id = bound.first OR bound.suspect IS NULL OR candidate.id < bound.suspect)
RETURNING id, attempts, message_id, type, key, data, headers,
          (SELECT category FROM es_django_stream AS stream WHERE stream.id = stream_id),
          (SELECT key FROM es_django_stream AS stream WHERE stream.id = stream_id),
          stream_version
"""

SETTLE = """
UPDATE es_django_outboxmessage
   SET status = settlement.status, attempts = settlement.counted, claimed_by = NULL, claimed_until = NULL,
       last_error = coalesce(nullif(settlement.error, ''), last_error),
       available_at = CASE WHEN settlement.delay > 0
                           THEN strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '+' || settlement.delay || ' seconds')
                           ELSE available_at END,
       published_at = CASE WHEN settlement.status = 'published' THEN strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now') END,
       failed_at = CASE WHEN settlement.status = 'dead' THEN strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now') END
  FROM (SELECT json_extract(value, '$.id') AS id, json_extract(value, '$.attempts') AS attempts,
               json_extract(value, '$.counted') AS counted, json_extract(value, '$.status') AS status,
               json_extract(value, '$.error') AS error, json_extract(value, '$.delay') AS delay
          FROM json_each(%(settlements)s)) AS settlement
 WHERE es_django_outboxmessage.id = settlement.id AND es_django_outboxmessage.attempts = settlement.attempts
   AND es_django_outboxmessage.status = 'claimed' AND es_django_outboxmessage.claimed_by = %(worker)s
   AND es_django_outboxmessage.claimed_until > strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')
RETURNING es_django_outboxmessage.id
"""

EXTEND = """
UPDATE es_django_outboxmessage
   SET claimed_until = strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '+' || %(lease)s || ' seconds')
  FROM (SELECT json_extract(value, '$.id') AS id, json_extract(value, '$.attempts') AS attempts
          FROM json_each(%(claims)s)) AS claim
 WHERE es_django_outboxmessage.id = claim.id AND es_django_outboxmessage.attempts = claim.attempts
   AND es_django_outboxmessage.status = 'claimed' AND es_django_outboxmessage.claimed_by = %(worker)s
   AND es_django_outboxmessage.claimed_until > strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')
RETURNING es_django_outboxmessage.id
"""
