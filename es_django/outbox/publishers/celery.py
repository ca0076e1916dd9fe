"""Sends each message to a Celery task, over the project's own broker."""

from collections.abc import Sequence
from functools import partial

import kombu
from celery import current_app

from es_django import conf
from es_django.messages.message import Message, to_wire
from es_django.outbox.errors import PublishError
from es_django.outbox.publishers import Publisher
from es_django.outbox.publishers.serializers import Outcomes
from es_django.outbox.publishers.task_channels import ConfirmedTasks, Task, UnconfirmedTasks
from es_django.outbox.publishers.thread_local import SOCKET_TIMEOUT, PerThread, opened, with_channel

HANDLER_TASK = "es_django.handle_message"


class CeleryPublisher(Publisher):
    """Sends each message as the argument of a Celery task, which runs the handlers of its type once each.

    OPTIONS: `task`, the name of the task, and `queue`, where it is not the default one. With RabbitMQ the broker
    confirms each message. Logs and monitors are shown its type and id, not what it carries.
    """

    def __init__(self, task: str = HANDLER_TASK, queue: str | None = None) -> None:
        self._task = task
        self._queue = queue
        self._connection = PerThread[ConfirmedTasks | UnconfirmedTasks](
            _task_channel, lambda channel: channel.collect()
        )

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        outcomes: Outcomes = {}
        unknown = PublishError("the broker has not confirmed it")
        channel = self._connection.get()
        try:
            channel.send(
                [Task(str(message.message_id), partial(self._send, message)) for message in messages],
                # A confirm that takes longer would come after the claim has run out.
                timeout=conf.settings().outbox.lease / 2,
                outcomes=outcomes,
            )
            if any(outcomes.values()):
                # The queue is gone, and Celery declares it once for each connection.
                self._connection.discard()
        except Exception as error:
            self._connection.discard()
            unknown = PublishError(repr(error))
        return [outcomes.get(index, unknown) for index in range(len(messages))]

    def _send(self, message: Message, producer: kombu.Producer) -> None:
        current_app.send_task(
            self._task,
            args=[to_wire(message)],
            # Workers log it and monitors show it: no place for what a message carries.
            argsrepr=f"({message.type} {message.message_id})",
            task_id=str(message.message_id),
            queue=self._queue,
            producer=producer,
            mandatory=True,
            retry=False,
            ignore_result=True,
        )


def _task_channel() -> ConfirmedTasks | UnconfirmedTasks:
    connection = current_app.connection_for_write()
    if connection.transport.driver_name != "py-amqp":
        return UnconfirmedTasks(with_channel(opened(connection)))
    options = {"read_timeout": SOCKET_TIMEOUT, "write_timeout": SOCKET_TIMEOUT, **(connection.transport_options or {})}
    return ConfirmedTasks(opened(connection.clone(transport_options={**options, "confirm_publish": False})))


def confirming_connection() -> kombu.Connection:
    """A new connection to the broker; without confirms RabbitMQ drops what it cannot take, and nobody is told."""
    connection = current_app.connection_for_write()
    options = connection.transport_options or {}
    return connection.clone(transport_options={**options, "confirm_publish": True})
