"""The categories of the streams, found without reading all streams."""

from django.db import connections

# From one category the index leads straight to the next, so this costs one look-up for each category, not for each
# stream, as SELECT DISTINCT would.
CATEGORIES = """
WITH RECURSIVE categories (category) AS (
    SELECT min(category) FROM es_django_stream
    UNION ALL
    SELECT (SELECT min(stream.category) FROM es_django_stream AS stream WHERE stream.category > categories.category)
      FROM categories WHERE categories.category IS NOT NULL
)
SELECT category FROM categories WHERE category IS NOT NULL LIMIT %s
"""


def stored_categories(using: str, limit: int) -> list[str]:
    """The first `limit` categories that have a stream, in order."""
    with connections[using].cursor() as cursor:
        cursor.execute(CATEGORIES, [limit])
        return [category for (category,) in cursor.fetchall()]
