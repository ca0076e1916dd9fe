"""The statements of the outbox in SQLite. Each runs inside BEGIN IMMEDIATE, which locks out all other writers."""

from es_django.store.sqlite.sql import NOW, seconds_from_now

# sql/postgresql.py explains each part. SQLite has one writer, so a claim never skips a row.
CLAIM = f"""
WITH suspect AS MATERIALIZED (
    SELECT message.id, message.key, message.size
      FROM es_django_outboxmessage AS message
     WHERE message.destination = %(destination)s AND message.status = 'claimed'
       AND message.claimed_until <= {NOW} AND message.attempts >= %(suspect_from)s
       AND (message.key IS NULL OR message.id = (
            SELECT head.id
              FROM es_django_outboxmessage AS head
             WHERE head.destination = %(destination)s AND head.key = message.key
               AND head.status IN ('pending', 'claimed')
             ORDER BY head.id LIMIT 1))
     ORDER BY message.id
     LIMIT 1
),
abandoned AS MATERIALIZED (
    SELECT message.id, message.key, message.size
      FROM es_django_outboxmessage AS message
     WHERE message.destination = %(destination)s AND message.status = 'claimed'
       AND message.claimed_until <= {NOW} AND message.attempts < %(suspect_from)s
       AND (message.key IS NULL OR (
            SELECT head.status = 'claimed' AND head.claimed_until <= {NOW}
              FROM es_django_outboxmessage AS head
             WHERE head.destination = %(destination)s AND head.key = message.key
               AND head.status IN ('pending', 'claimed')
             ORDER BY head.id LIMIT 1))
       AND NOT EXISTS (SELECT 1 FROM suspect)
     ORDER BY message.id
     LIMIT %(limit)s
),
busy AS MATERIALIZED (
    SELECT held.key
      FROM (SELECT key, id
              FROM es_django_outboxmessage
             WHERE destination = %(destination)s AND key IS NOT NULL
               AND status = 'claimed' AND claimed_until > {NOW}
            UNION ALL
            SELECT key, id
              FROM (SELECT key, id
                      FROM es_django_outboxmessage
                     WHERE destination = %(destination)s AND key IS NOT NULL AND status = 'pending'
                       AND available_at > created_at AND available_at > {NOW}
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
       AND message.available_at <= {NOW}
       AND (message.key IS NULL OR message.key NOT IN (SELECT key FROM busy) AND (
            SELECT head.status = 'pending' AND head.available_at <= {NOW}
              FROM es_django_outboxmessage AS head
             WHERE head.destination = %(destination)s AND head.key = message.key
               AND head.status IN ('pending', 'claimed')
             ORDER BY head.id LIMIT 1))
       AND NOT EXISTS (SELECT 1 FROM suspect) AND NOT EXISTS (SELECT 1 FROM abandoned)
     ORDER BY message.id
     LIMIT %(limit)s
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
)
UPDATE es_django_outboxmessage
   SET status = 'claimed', attempts = attempts + 1, claimed_by = %(worker)s,
       claimed_until = {seconds_from_now("%(lease)s")}
 WHERE id IN (
    SELECT batch.id
      FROM batch LEFT JOIN hole ON hole.key = batch.key
     WHERE hole.id IS NULL OR batch.id < hole.id)
RETURNING id, attempts, message_id, type, key, data, headers,
          (SELECT category FROM es_django_stream AS stream WHERE stream.id = stream_id),
          (SELECT key FROM es_django_stream AS stream WHERE stream.id = stream_id),
          stream_version, last_error, NULL
"""

SETTLE = f"""
UPDATE es_django_outboxmessage
   SET status = settlement.status, attempts = settlement.counted, claimed_by = NULL, claimed_until = NULL,
       last_error = coalesce(nullif(settlement.error, ''), last_error),
       available_at = CASE WHEN settlement.delay > 0
                           THEN {seconds_from_now("settlement.delay")}
                           ELSE available_at END,
       published_at = CASE WHEN settlement.status = 'published' THEN {NOW} END,
       failed_at = CASE WHEN settlement.status = 'dead' THEN {NOW} END
  FROM (SELECT json_extract(value, '$.id') AS id, json_extract(value, '$.attempts') AS attempts,
               json_extract(value, '$.counted') AS counted, json_extract(value, '$.status') AS status,
               json_extract(value, '$.error') AS error, json_extract(value, '$.delay') AS delay
          FROM json_each(%(settlements)s)) AS settlement
 WHERE es_django_outboxmessage.id = settlement.id AND es_django_outboxmessage.attempts = settlement.attempts
   AND es_django_outboxmessage.status = 'claimed' AND es_django_outboxmessage.claimed_by = %(worker)s
   AND es_django_outboxmessage.claimed_until > {NOW}
RETURNING es_django_outboxmessage.id
"""

EXTEND = f"""
UPDATE es_django_outboxmessage
   SET claimed_until = {seconds_from_now("%(lease)s")}
  FROM (SELECT json_extract(value, '$.id') AS id, json_extract(value, '$.attempts') AS attempts
          FROM json_each(%(claims)s)) AS claim
 WHERE es_django_outboxmessage.id = claim.id AND es_django_outboxmessage.attempts = claim.attempts
   AND es_django_outboxmessage.status = 'claimed' AND es_django_outboxmessage.claimed_by = %(worker)s
   AND es_django_outboxmessage.claimed_until > {NOW}
RETURNING es_django_outboxmessage.id
"""
