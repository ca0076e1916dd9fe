"""Starts the relay as soon as a transaction that wrote messages has committed.

A nudge is only a hint: the messages are safe in the database, and a sweep finds whatever a lost nudge missed.
"""

import logging

from celery import current_app
from django.db import connections, transaction

from es_django.store.reactions import after_messages

logger = logging.getLogger("es_django.outbox")

RELAY_TASK = "es_django.relay_outbox"


def nudge_relay() -> None:
    """Sends the relay's task, or logs that it could not be sent; it never fails the caller."""
    try:
        current_app.send_task(RELAY_TASK, expires=60, retry=False, ignore_result=True)
    except Exception as error:
        logger.warning("the relay was not nudged, the next sweep publishes: %r", error)


def nudge_on_commit(using: str) -> None:
    connection = connections[using]
    alive = set(connection.savepoint_ids)
    if any(entry[1] is nudge_relay and entry[0] <= alive for entry in connection.run_on_commit):
        return
    transaction.on_commit(nudge_relay, using=using, robust=True)


after_messages.append(nudge_on_commit)
