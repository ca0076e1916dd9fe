"""Keep the highest number that SQLite has drawn for each table, when a migration makes a table anew.

The new table would go on from its highest row. If later rows were deleted, their numbers would be drawn again, and a
reader that has passed them would skip the new rows.
"""

from django.db.backends.base.base import BaseDatabaseWrapper

Drawn = dict[str, int]


def drawn_numbers(connection: BaseDatabaseWrapper) -> Drawn:
    """Return the highest number that was drawn for each table of es_django."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'")
        if cursor.fetchone() is None:
            return {}
        cursor.execute("SELECT name, seq FROM sqlite_sequence WHERE substr(name, 1, 10) = 'es_django_'")
        return dict(cursor.fetchall())


def restore_drawn_numbers(connection: BaseDatabaseWrapper, before: Drawn) -> None:
    """Raise the numbers that are lower than `before`."""
    now, tables = drawn_numbers(connection), connection.introspection.table_names()
    with connection.cursor() as cursor:
        for table, number in before.items():
            if table in tables and number > now.get(table, 0):
                cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
                cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, number])
