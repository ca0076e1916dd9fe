"""The categories of streams, found without reading all streams."""

from django.db import connections

SEARCHED_CATEGORIES = 1000

# Each step jumps to the next category in the index: one look-up for each category. SELECT DISTINCT would read every
# stream.
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
    """Return the first `limit` categories that have a stream, in alphabetical order."""
    with connections[using].cursor() as cursor:
        cursor.execute(CATEGORIES, [limit])
        return [category for (category,) in cursor.fetchall()]
