"""Sends messages to an exchange of RabbitMQ, and believes only what the broker confirms."""

from collections.abc import Sequence
from typing import Any

import kombu

from es_django import conf
from es_django.errors import PublishError
from es_django.outbox.publishers import Publisher
from es_django.outbox.publishers.connection import ThreadConnection
from es_django.store.messages import Message, to_wire

PERSISTENT = 2


class KombuPublisher(Publisher):
    """Publishes each message as persistent JSON, with its type as the routing key.

    OPTIONS: `url` of the broker; `exchange`, which must exist; `routing_key`, where it is not the message's type. A
    message that no queue takes is an error, since it would be lost.
    """

    def __init__(self, url: str, exchange: str = "", routing_key: str | None = None) -> None:
        self._exchange = exchange
        self._routing_key = routing_key
        self._connection = ThreadConnection(
            lambda: kombu.Connection(url, connect_timeout=5, transport_options={"confirm_publish": True})
        )

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        # A confirm that takes longer would come after the claim has run out.
        timeout = conf.settings().outbox.lease / 2
        outcomes: list[PublishError | None] = []
        returned: list[str] = []

        def note_return(error: Exception, *details: Any) -> None:
            returned.append(str(error))

        try:
            producer = kombu.Producer(self._connection.get(), on_return=note_return)
            for message in messages:
                returned.clear()
                producer.publish(
                    to_wire(message),
                    exchange=self._exchange,
                    routing_key=self._routing_key or message.type,
                    serializer="json",
                    delivery_mode=PERSISTENT,
                    mandatory=True,
                    message_id=str(message.message_id),
                    headers=dict(message.headers),
                    confirm_timeout=timeout,
                )
                outcomes.append(PublishError(f"no queue takes it: {returned[0]}") if returned else None)
        except Exception as error:
            self._connection.discard()
            outcomes += [PublishError(repr(error))] * (len(messages) - len(outcomes))
        return outcomes
