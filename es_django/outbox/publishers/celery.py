"""Send each message as a Celery task, over the project's own broker."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import amqp
import kombu
from celery.exceptions import SoftTimeLimitExceeded
from kombu.exceptions import OperationalError
from kombu.transport import pyamqp

from es_django import conf
from es_django.celery_app import project_app
from es_django.messages.message import Message, to_wire
from es_django.outbox.errors import DestinationUnreachable, PublishError
from es_django.outbox.publishers import Outcomes, Publisher
from es_django.outbox.publishers.amqp_confirms import ConfirmingChannel
from es_django.outbox.publishers.amqp_frames import Delivery
from es_django.outbox.publishers.broker_errors import broker_error, is_about_message
from es_django.outbox.publishers.isolation import publish_isolated
from es_django.outbox.publishers.thread_local import SOCKET_TIMEOUT, PerThread, open_channel, open_connection

HANDLER_TASK = "es_django.handle_message"
EVENT_INDEX = -1
"""The index of the `task-sent` events that Celery publishes after its tasks. Their outcomes are not read."""

Send = Callable[[Message, kombu.Producer], None]


class CeleryPublisher(Publisher):
    """Sends each message as the argument of a Celery task, which runs each handler of the message's type once.

    | option | |
    | --- | --- |
    | `task` | the name of the task; `es_django.handle_message` if absent |
    | `queue` | the queue; the one that Celery's routes choose if absent |

    RabbitMQ confirms each task. Celery's logs and monitors show the message's type and id, but not its data.
    """

    def __init__(self, task: str = HANDLER_TASK, queue: str | None = None) -> None:
        self.task: str = task
        self.queue: str | None = queue
        self._connection = PerThread[_ConfirmedTasks | _UnconfirmedTasks](_connect, lambda tasks: tasks.collect())

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        # A later confirm could arrive after the claim has expired.
        deadline = time.monotonic() + conf.settings().outbox.lease / 2

        def send(batch: Sequence[tuple[int, Message]], outcomes: Outcomes) -> None:
            try:
                timeout = deadline - time.monotonic()
                self._connection.get().publish(batch, self._send, timeout=timeout, outcomes=outcomes)
            except Exception:
                self._connection.discard()
                raise
            if any(outcomes.values()):
                # The queue may have been deleted. Celery declares a queue once per connection, so a new connection
                # declares it again.
                self._connection.discard()

        return publish_isolated(messages, send, blames=is_about_message)

    def _send(self, message: Message, producer: kombu.Producer) -> None:
        project_app().send_task(
            self.task,
            args=[to_wire(message)],
            # Workers log `argsrepr` and monitors show it, so it must not contain the message's data.
            argsrepr=f"({message.type} {message.message_id})",
            task_id=str(message.message_id),
            queue=self.queue,
            # The project's settings for all tasks could choose a format that its workers refuse, or lose a message.
            serializer="json",
            delivery_mode="persistent",
            producer=producer,
            mandatory=True,
            retry=False,
            ignore_result=True,
        )


class _ConfirmedTasks:
    """Has Celery build and route the tasks, and sends them on a `ConfirmingChannel`. Not thread-safe."""

    def __init__(self, connection: kombu.Connection) -> None:
        self._recorder = _RecordingChannel(cast("Any", connection).connection)
        self._channel = ConfirmingChannel(connection)
        self._fatal: tuple[type[Exception], ...] = (
            *cast("Any", connection).connection_errors,
            *cast("Any", connection).channel_errors,
            OperationalError,
            SoftTimeLimitExceeded,
        )

    def publish(
        self, messages: Sequence[tuple[int, Message]], send: Send, *, timeout: float, outcomes: Outcomes
    ) -> None:
        self._channel.publish(self._deliveries(messages, send, outcomes), timeout=timeout, outcomes=outcomes)

    def collect(self) -> None:
        self._channel.collect()

    def _deliveries(
        self, messages: Sequence[tuple[int, Message]], send: Send, outcomes: Outcomes
    ) -> Iterator[tuple[int, Delivery]]:
        producer = project_app().amqp.Producer(self._recorder)
        for index, message in messages:
            recorded = self._recorder.recorded = []
            try:
                # Celery declares a queue before its first task. Without this timeout, py-amqp would wait for the reply
                # for ever.
                with self._recorder.connection.transport.having_timeout(self._channel.seconds_left()):
                    send(message, producer)
            except self._fatal:
                raise
            except Exception as error:
                outcomes[index] = PublishError(repr(error))
            # If `task_send_sent_event` is set, Celery sends an event after the task.
            for task in recorded[:1]:
                task.properties["message_id"] = str(message.message_id)
                yield index, task
            for event in recorded[1:]:
                yield EVENT_INDEX, event


class _RecordingChannel(pyamqp.Channel):
    """Declares queues on the broker, but records messages instead of sending them."""

    def __init__(self, connection: amqp.Connection) -> None:
        super().__init__(connection)
        self.recorded: list[Delivery] = []
        self.open()

    def basic_publish(
        self,
        msg: amqp.Message,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        *args: object,
        **options: object,
    ) -> None:
        properties = {name: value for name, value in msg.properties.items() if value is not None}
        body = msg.body.encode(properties["content_encoding"]) if isinstance(msg.body, str) else msg.body
        self.recorded.append(Delivery(exchange, routing_key, properties, body, mandatory))


class _UnconfirmedTasks:
    """Sends tasks to a broker such as Redis, which creates queues on first use and keeps every accepted message."""

    def __init__(self, connection: kombu.Connection) -> None:
        self._connection = connection

    def publish(
        self, messages: Sequence[tuple[int, Message]], send: Send, *, timeout: float, outcomes: Outcomes
    ) -> None:
        """Publish as `_ConfirmedTasks.publish` does, except that the broker's own settings limit the time."""
        producer = project_app().amqp.Producer(self._connection)
        deadline = time.monotonic() + timeout
        for index, message in messages:
            if time.monotonic() >= deadline:
                raise DestinationUnreachable("the broker was too slow to take this message", is_certain=True)
            try:
                send(message, producer)
            except SoftTimeLimitExceeded:
                raise
            except Exception as error:
                # Each message has its own outcome: kombu connects again for the next one.
                outcomes[index] = outcome = broker_error(error)
                if isinstance(outcome, DestinationUnreachable) and outcome.is_certain:
                    raise outcome from error
            else:
                outcomes[index] = None

    def collect(self) -> None:
        self._connection.collect()


def _connect() -> _ConfirmedTasks | _UnconfirmedTasks:
    connection = project_app().connection_for_write()
    if connection.transport.driver_name != "py-amqp":
        return _UnconfirmedTasks(open_channel(open_connection(connection)))
    options = {"read_timeout": SOCKET_TIMEOUT, "write_timeout": SOCKET_TIMEOUT, **(connection.transport_options or {})}
    return _ConfirmedTasks(open_connection(connection.clone(transport_options={**options, "confirm_publish": False})))


def confirming_connection() -> kombu.Connection:
    """Return a new connection to the broker that confirms messages.

    Without confirms RabbitMQ silently drops a message that it cannot accept.
    """
    connection = project_app().connection_for_write()
    options = connection.transport_options or {}
    return connection.clone(transport_options={**options, "confirm_publish": True})
