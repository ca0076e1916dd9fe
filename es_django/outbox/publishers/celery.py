"""Sends each message to a Celery task, over the project's own broker."""

from collections.abc import Sequence

import kombu
from celery import current_app

from es_django import conf
from es_django.errors import PublishError
from es_django.outbox.publishers import Publisher
from es_django.outbox.publishers.connection import ThreadConnection
from es_django.store.messages import Message, to_wire

HANDLER_TASK = "es_django.handle_message"


class CeleryPublisher(Publisher):
    """Sends each message as the argument of a Celery task, which runs the handlers of its type once each.

    OPTIONS: `task`, the name of the task, and `queue`, where it is not the default one. With RabbitMQ the broker
    confirms each message.
    """

    def __init__(self, task: str = HANDLER_TASK, queue: str | None = None) -> None:
        self._task = task
        self._queue = queue
        self._connection = ThreadConnection(confirming_connection)

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        # A confirm that takes longer would come after the claim has run out.
        timeout = conf.settings().outbox.lease / 2
        outcomes: list[PublishError | None] = []
        returned: list[str] = []

        def note_return(error: Exception, *details: object) -> None:
            returned.append(str(error))

        connection = self._connection.get()
        try:
            # Only AMQP returns what no queue takes; in other brokers a queue is made by sending to it.
            on_return = note_return if connection.transport.driver_type == "amqp" else None
            producer = current_app.amqp.Producer(connection, on_return=on_return)
            for message in messages:
                returned.clear()
                current_app.send_task(
                    self._task,
                    args=[to_wire(message)],
                    task_id=str(message.message_id),
                    queue=self._queue,
                    producer=producer,
                    mandatory=True,
                    confirm_timeout=timeout,
                    retry=False,
                    ignore_result=True,
                )
                outcomes.append(PublishError(f"no queue takes it: {returned[0]}") if returned else None)
            if any(outcomes):
                # The queue is gone, and Celery declares it once for each connection.
                self._connection.discard()
        except Exception as error:
            self._connection.discard()
            outcomes += [PublishError(repr(error))] * (len(messages) - len(outcomes))
        return outcomes


def confirming_connection() -> kombu.Connection:
    """A new connection to the broker; without confirms RabbitMQ drops what it cannot take, and nobody is told."""
    connection = current_app.connection_for_write()
    options = connection.transport_options or {}
    return connection.clone(transport_options={**options, "confirm_publish": True})
