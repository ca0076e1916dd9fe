"""Wake the relay as soon as a transaction that wrote messages has committed.

A wakeup is only a hint: the messages are safe in the database. If a wakeup is lost, the next scheduled run of the relay
(a sweep) finds its messages. A separate thread sends the wakeups. So the broker never fails or delays a request, and
many commits share one wakeup.
"""

import os
import time
import weakref
from threading import Event, Lock, Thread
from typing import Any

import celery.app.amqp  # noqa: F401  # imported here, because a fork could interrupt an import in the thread
import kombu
from django.db import connections

from es_django.celery_app import NoCeleryApp, project_app
from es_django.core.logs import Log
from es_django.outbox.publishers.thread_local import BrokerPerThread
from es_django.store.hooks import after_messages

logger: Log = Log("es_django.outbox")

RELAY_TASK = "es_django.relay_outbox"
EXPIRES = 5.0
"""Seconds after which the broker drops a wakeup, because a sweep has run by then."""
INTERVAL = 0.1
"""The shortest time between two wakeups of a process, in seconds."""
BROKER_PAUSE = 5.0
"""Seconds to wait after the broker did not accept a wakeup."""


class Waker:
    """Sends wakeups from a thread of its own, which starts at the first wakeup.

    Under a server that does not run threads, such as uWSGI without `enable-threads`, only sweeps find the messages.
    """

    def __init__(self) -> None:
        self._wanted = Event()
        self._starting = Lock()
        self._thread: Thread | None = None
        self._connection = BrokerPerThread(_impatient_connection)

    def wake(self) -> None:
        """Ask the thread to send a wakeup soon. Several calls in a short time share one wakeup."""
        self._wanted.set()
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._run, name="es_django wakeups", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while self._wanted.wait():
            self._wanted.clear()
            time.sleep(INTERVAL if self._send() else BROKER_PAUSE)

    def _send(self) -> bool:
        try:
            app = project_app()
        except NoCeleryApp:
            return True  # a system check says so; manage.py es_relay needs no wake-up
        try:
            producer = app.amqp.Producer(self._connection.get())
            app.send_task(RELAY_TASK, producer=producer, expires=EXPIRES, retry=False, ignore_result=True)
        except Exception as error:
            self._connection.discard()
            ids = {"task": RELAY_TASK}
            logger.warning(
                "the broker did not accept the wake-up of the relay; the next scheduled run publishes the messages: %r",
                error,
                extra=ids,
            )
            return False
        return True


def _impatient_connection() -> kombu.Connection:
    return project_app().connection_for_write().clone(connect_timeout=1)


def _replace_waker() -> None:
    # A forked process has no copy of the thread, and its copy of the lock may be held for ever.
    global _waker
    _waker = Waker()


_waker = Waker()
os.register_at_fork(after_in_child=_replace_waker)


def wake_relay() -> None:
    """Ask the thread to send the task of the relay soon."""
    _waker.wake()


class _Wakeup:
    """The wakeup of one transaction: the callback, and the savepoints whose rollback makes Django drop the callback."""

    def __init__(self, connection: Any) -> None:
        self._has_run = False

        def wake() -> None:
            self._has_run = True
            wake_relay()

        self._callback = weakref.ref(wake)
        self._savepoints: set[Any] = set()
        connection.on_commit(wake, robust=True)
        if connection.run_on_commit and connection.run_on_commit[-1][1] is wake:
            self._savepoints = connection.run_on_commit[-1][0]

    def covers(self, connection: Any) -> bool:
        """Return whether the callback still waits, so that it also serves messages of the current savepoint."""
        if self._has_run or self._callback() is None:
            return False
        # A savepoint that has ended was released, otherwise Django would have dropped the callback. It cannot be rolled
        # back any more. Only the savepoints that are still open can drop the callback.
        self._savepoints.intersection_update(connection.savepoint_ids)
        return True


def wake_relay_on_commit(using: str) -> None:
    """Wake the relay once after the current transaction. If all its messages are rolled back, do not wake it.

    The cost is the same for each message, however many savepoints and callbacks the transaction has.
    """
    connection: Any = connections[using]
    waiting: _Wakeup | None = getattr(connection, "_es_django_wakeup", None)
    if waiting is None or not waiting.covers(connection):
        connection._es_django_wakeup = _Wakeup(connection)


after_messages.append(wake_relay_on_commit)
