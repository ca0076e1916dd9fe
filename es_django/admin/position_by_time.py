"""Where a time lies in a table whose rows are numbered as they come, and whose time has no index.

The numbers grow with the time, so that a place is found by halving, a look-up in the primary key for each step. Rows
of transactions at the same moment may lie the other way round; the place is right but for these.
"""

from collections.abc import Sequence
from datetime import datetime

from django.db import connections
from django.db.models import Model

# From beyond the newest row each place goes down as long as the first row from there on is not too old.
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


def places_since(model: type[Model], time: str, moments: Sequence[datetime], *, using: str) -> list[int]:
    """For each of the `moments`, oldest first, the least primary key from which on all rows are as new or newer."""
    keys = model._default_manager.using(using).values_list("pk", flat=True)
    first, newest = keys.order_by("pk").first() or 1, keys.order_by("-pk").first() or 0
    # The first place tells how far down the others can be at most, so that fewer steps find them.
    oldest = _places(model, time, moments[:1], above=newest, within=newest, using=using)
    later = _places(model, time, moments[1:], above=newest, within=newest - oldest[0], using=using)
    # Below the first row there is nothing: a table that has been emptied goes on with its numbers.
    return [max(first, place) for place in oldest + later]


def _places(
    model: type[Model], time: str, moments: Sequence[datetime], *, above: int, within: int, using: str
) -> list[int]:
    if not moments:
        return []
    connection = connections[using]
    quote = connection.ops.quote_name
    sql = PLACES.format(
        boundaries=", ".join(["(%s, %s)"] * len(moments)),
        time=quote(time),
        table=quote(model._meta.db_table),
        key=quote(model._meta.pk.attname),
    )
    numbered = [
        value
        for number, moment in enumerate(moments)
        for value in (number, connection.ops.adapt_datetimefield_value(moment))
    ]
    with connection.cursor() as cursor:
        cursor.execute(sql, [*numbered, above + 1, 1 << max(0, within + 1).bit_length()])
        return [place for (place,) in cursor.fetchall()]
