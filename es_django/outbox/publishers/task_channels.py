"""What Celery tasks are sent on: a channel of RabbitMQ, which confirms them, or the connection to another broker."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import amqp
import kombu
from celery import current_app
from kombu.exceptions import EncodeError, OperationalError

from es_django.errors import PublishError
from es_django.outbox.publishers.confirms import Confirms
from es_django.outbox.publishers.formats import Outcomes


class Task(NamedTuple):
    id: str
    send: Callable[[kombu.Producer], None]
    """Sends it by a producer of Celery."""


class ConfirmedTasks:
    """Sends batches on a connection of its own, which confirms nothing by itself; not for use by several threads."""

    def __init__(self, connection: kombu.Connection) -> None:
        self._connection = connection
        self._confirms = Confirms(connection, identity="correlation_id")
        self._channel = self._confirms.channel
        self._indexes: dict[str, int] = {}
        self._publish = self._channel.basic_publish
        self._channel.basic_publish = self._publish_and_expect
        self._ending: tuple[type[Exception], ...] = (
            *cast("Any", connection).connection_errors,
            *cast("Any", connection).channel_errors,
            OperationalError,
        )

    def send(self, tasks: Sequence[Task], *, timeout: float, outcomes: Outcomes) -> None:
        """Sends tasks and notes in `outcomes`, by their indexes, what became of them.

        It returns when all are confirmed or refused. Raises what Celery does, whatever ends the connection or the
        channel, and `TimeoutError` after `timeout` seconds; what is not in `outcomes` by then may have arrived or not.
        """
        self._confirms.begin(outcomes, timeout=timeout)
        self._indexes = {task.id: index for index, task in enumerate(tasks)}
        producer = current_app.amqp.Producer(self._channel)
        try:
            for index, task in enumerate(tasks):
                try:
                    self._send(task, producer)
                except EncodeError as error:
                    outcomes[index] = PublishError(repr(error))
        except self._ending:
            raise
        except Exception:
            # What was sent before it has arrived, and need not be sent again.
            self._confirms.wait()
            raise
        self._confirms.wait()

    def collect(self) -> None:
        self._connection.collect()

    def _send(self, task: Task, producer: kombu.Producer) -> None:
        # Celery declares a queue before its first task, and py-amqp awaits the reply for as long as it takes.
        with self._channel.connection.transport.having_timeout(self._confirms.seconds_left()):
            task.send(producer)
        if self._confirms.are_many_missing():
            self._confirms.wait()

    def _publish_and_expect(self, message: amqp.Message, *args: Any, **options: Any) -> None:
        self._publish(message, *args, **options)
        # With task_send_sent_event Celery publishes more than tasks here.
        task_id = message.properties.get("correlation_id", "")
        self._confirms.expect(self._indexes.get(task_id), task_id)


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
