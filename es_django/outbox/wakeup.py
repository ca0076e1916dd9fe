"""Starts the relay as soon as a transaction that wrote messages has committed.

A nudge is only a hint: the messages are safe in the database, and a sweep finds whatever a lost nudge missed. It is
sent by a thread of its own, so that no broker ever fails or delays a request, and many commits share one.
"""

import logging
import os
import time
from threading import Event, Lock, Thread

import celery.app.amqp  # noqa: F401  # now, since an import in the thread could be cut in two by a fork
import kombu
from celery import current_app
from django.db import connections

from es_django.outbox.publishers.thread_local import BrokerPerThread
from es_django.store.hooks import after_messages

logger: logging.Logger = logging.getLogger("es_django.outbox")

RELAY_TASK = "es_django.relay_outbox"
EXPIRES = 5.0
"""Seconds; by then a sweep has come by."""
INTERVAL = 0.1
"""Seconds between two nudges of a process at least."""
SILENCE = 5.0
"""Seconds for which a broker that did not answer is left alone."""


class Nudger:
    """Sends nudges from its thread, which starts with the first one. Where threads do not run, as under uWSGI without
    `enable-threads`, sweeps alone find the messages."""

    def __init__(self) -> None:
        self._wanted = Event()
        self._starting = Lock()
        self._thread: Thread | None = None
        self._connection = BrokerPerThread(_impatient_connection)

    def want(self) -> None:
        """Has a nudge sent soon; many wishes at once make one nudge."""
        self._wanted.set()
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._run, name="es_django nudges", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while self._wanted.wait():
            self._wanted.clear()
            time.sleep(INTERVAL if self._send() else SILENCE)

    def _send(self) -> bool:
        try:
            producer = current_app.amqp.Producer(self._connection.get())
            current_app.send_task(RELAY_TASK, producer=producer, expires=EXPIRES, retry=False, ignore_result=True)
        except Exception as error:
            self._connection.discard()
            logger.warning("the relay was not nudged, the next sweep publishes: %r", error, extra={"task": RELAY_TASK})
            return False
        return True


def _impatient_connection() -> kombu.Connection:
    return current_app.connection_for_write().clone(connect_timeout=1)


def _start_anew() -> None:
    # A forked process has no copy of the thread, and perhaps one of a lock that was held.
    global _nudger
    _nudger = Nudger()


_nudger = Nudger()
os.register_at_fork(after_in_child=_start_anew)


def nudge_relay() -> None:
    """Has the relay's task sent soon."""
    _nudger.want()


def nudge_on_commit(using: str) -> None:
    connection = connections[using]
    if connection.run_on_commit:
        alive = set(connection.savepoint_ids)
        if any(entry[1] is nudge_relay and entry[0] <= alive for entry in connection.run_on_commit):
            return
    connection.on_commit(nudge_relay, robust=True)


after_messages.append(nudge_on_commit)
