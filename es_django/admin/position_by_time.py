"""Find the first primary key at or after a time, in a table that has no index on its time column.

Primary keys grow with time, so a binary search finds the key. Each step is one look-up in the primary key's index. Keys
and times of concurrent transactions may be in opposite order; the result is exact except for such rows.
"""

from collections.abc import Sequence
from datetime import datetime

from django.db import connections
from django.db.models import Model

# Each search starts above the newest row. It steps down unless the row at the lower key is older than the time.
PLACES = """
WITH RECURSIVE boundaries (number, since) AS (VALUES {boundaries}),
search (number, since, place, step) AS (
    SELECT number, since, CAST(%s AS bigint), CAST(%s AS bigint) FROM boundaries
     UNION ALL
    SELECT number, since,
           CASE WHEN (SELECT {time} FROM {table} WHERE {key} >= place - step ORDER BY {key} LIMIT 1) >= since
                THEN place - step ELSE place END,
           step / 2
      FROM search WHERE step > 0
)
SELECT place FROM search WHERE step = 0 ORDER BY number
"""


def first_keys_since(model: type[Model], time: str, times: Sequence[datetime], *, using: str) -> list[int]:
    """Return, for each of `times` (oldest first), the lowest primary key whose row is not older than that time."""
    keys = model._default_manager.using(using).values_list("pk", flat=True)
    first, newest = keys.order_by("pk").first() or 1, keys.order_by("-pk").first() or 0
    # Later times cannot have lower keys than the oldest one, so their searches cover a shorter range.
    oldest = _search(model, time, times[:1], above=newest, within=newest, using=using)
    later = _search(model, time, times[1:], above=newest, within=newest - oldest[0], using=using)
    # A search may end below the first row, because a table that was emptied continues its numbering.
    return [max(first, place) for place in oldest + later]


def _search(
    model: type[Model], time: str, times: Sequence[datetime], *, above: int, within: int, using: str
) -> list[int]:
    if not times:
        return []
    connection = connections[using]
    quote = connection.ops.quote_name
    sql = PLACES.format(
        boundaries=", ".join(["(%s, %s)"] * len(times)),
        time=quote(time),
        table=quote(model._meta.db_table),
        key=quote(model._meta.pk.attname),
    )
    numbered = [
        value
        for number, since in enumerate(times)
        for value in (number, connection.ops.adapt_datetimefield_value(since))
    ]
    with connection.cursor() as cursor:
        cursor.execute(sql, [*numbered, above + 1, 1 << max(0, within + 1).bit_length()])
        return [place for (place,) in cursor.fetchall()]
