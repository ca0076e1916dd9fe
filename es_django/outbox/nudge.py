"""Starts the relay as soon as a transaction that wrote messages has committed.

A nudge is only a hint: the messages are safe in the database, and a sweep finds whatever a lost nudge missed.
"""

import logging
import time

import kombu
from celery import current_app
from django.db import connections, transaction

from es_django.outbox.publishers.connection import ThreadConnection
from es_django.store.reactions import after_messages

logger = logging.getLogger("es_django.outbox")

RELAY_TASK = "es_django.relay_outbox"
EXPIRES = 5.0
"""Seconds; by then a sweep has come by."""
SILENCE = 5.0


def nudge_relay() -> None:
    """Sends the relay's task, or logs that it could not be sent.

    It never fails its caller, nor keeps it waiting: a broker that did not answer is left alone for a while.
    """
    global _silent_until
    if time.monotonic() < _silent_until:
        return
    try:
        producer = current_app.amqp.Producer(_connection.get())
        current_app.send_task(RELAY_TASK, producer=producer, expires=EXPIRES, retry=False, ignore_result=True)
    except Exception as error:
        _connection.discard()
        _silent_until = time.monotonic() + SILENCE
        logger.warning("the relay was not nudged, the next sweep publishes: %r", error)


def _impatient_connection() -> kombu.Connection:
    return current_app.connection_for_write().clone(connect_timeout=1)


_connection = ThreadConnection(_impatient_connection)
_silent_until = 0.0


def nudge_on_commit(using: str) -> None:
    connection = connections[using]
    alive = set(connection.savepoint_ids)
    if any(entry[1] is nudge_relay and entry[0] <= alive for entry in connection.run_on_commit):
        return
    transaction.on_commit(nudge_relay, using=using, robust=True)


after_messages.append(nudge_on_commit)
