"""What Celery tasks are sent on: a channel of RabbitMQ, which confirms them, or the connection to another broker."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import amqp
import kombu
from celery import current_app
from celery.exceptions import SoftTimeLimitExceeded
from kombu.exceptions import OperationalError

from es_django.outbox.errors import PublishError
from es_django.outbox.publishers.amqp_confirms import Confirms
from es_django.outbox.publishers.serializers import Outcomes


class Task(NamedTuple):
    id: str
    send: Callable[[kombu.Producer], None]
    """Sends it by a producer of Celery."""


class ConfirmedTasks:
    """Sends batches on a connection of its own, which confirms nothing by itself; not for use by several threads."""

    def __init__(self, connection: kombu.Connection) -> None:
        self._connection = connection
        self._confirms = Confirms(connection)
        self._channel = self._confirms.channel
        self._publish = self._channel.basic_publish
        self._channel.basic_publish = self._publish_and_expect
        self._being_sent: tuple[int, Task] | None = None
        self._ending: tuple[type[Exception], ...] = (
            *cast("Any", connection).connection_errors,
            *cast("Any", connection).channel_errors,
            OperationalError,
            SoftTimeLimitExceeded,
        )

    def send(self, tasks: Sequence[Task], *, timeout: float, outcomes: Outcomes) -> None:
        """Sends tasks and notes in `outcomes`, by their indexes, what became of them.

        It returns when all are confirmed or refused, or could not be made. Raises whatever ends the connection or the
        channel, and `TimeoutError` after `timeout` seconds; what is not in `outcomes` by then may have arrived or not.
        """
        self._confirms.begin(outcomes, timeout=timeout)
        producer = current_app.amqp.Producer(self._channel)
        for index, task in enumerate(tasks):
            self._being_sent = index, task
            try:
                # Celery declares a queue before its first task, and py-amqp awaits the reply for as long as it takes.
                with self._channel.connection.transport.having_timeout(self._confirms.seconds_left()):
                    task.send(producer)
            except self._ending:
                raise
            except Exception as error:
                outcomes[index] = PublishError(repr(error))
            if self._confirms.are_many_missing():
                self._confirms.wait()
        self._confirms.wait()

    def collect(self) -> None:
        self._connection.collect()

    def _publish_and_expect(self, message: amqp.Message, *args: Any, **options: Any) -> None:
        # The task comes first; with task_send_sent_event Celery publishes more than tasks here.
        index, message_id = None, ""
        if self._being_sent is not None:
            index, task = self._being_sent
            message_id = message.properties["message_id"] = task.id
        self._being_sent = None
        self._publish(message, *args, **options)
        self._confirms.expect(index, message_id)


class UnconfirmedTasks:
    """Sends tasks to a broker in which a queue is made by sending to it, and that has what it has taken."""

    def __init__(self, connection: kombu.Connection) -> None:
        self._connection = connection

    def send(self, tasks: Sequence[Task], *, timeout: float, outcomes: Outcomes) -> None:
        """As `ConfirmedTasks.send`, but for the time, which is up to the broker's own settings."""
        producer = current_app.amqp.Producer(self._connection)
        for index, task in enumerate(tasks):
            task.send(producer)
            outcomes[index] = None

    def collect(self) -> None:
        self._connection.collect()
