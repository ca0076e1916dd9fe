"""Find out with one cheap query whether the relay has anything to do."""

from django.db import connections

from es_django import conf
from es_django.store.error_translation import storage_errors

# Each half reads one entry of a partial index.
_OPEN = """
SELECT EXISTS (SELECT 1 FROM es_django_outboxmessage WHERE status = 'pending')
    OR EXISTS (SELECT 1 FROM es_django_outboxmessage WHERE status = 'claimed')
"""


def has_open_messages() -> bool:
    """Return whether any message is not yet published or given up. Raise `StorageError` if the database fails."""
    connection = connections[conf.settings().database]
    with storage_errors("look for open messages", connection), connection.cursor() as cursor:
        cursor.execute(_OPEN)
        return bool(cursor.fetchone() == (True,))
