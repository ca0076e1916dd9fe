"""Sends messages to an exchange of RabbitMQ, and believes only what the broker confirms."""

from collections.abc import Iterator, Sequence

import kombu
from django.core.exceptions import ImproperlyConfigured

from es_django import conf
from es_django.messages.message import Message
from es_django.outbox.errors import PublishError
from es_django.outbox.publishers import Publisher
from es_django.outbox.publishers.amqp_confirms import ConfirmingChannel
from es_django.outbox.publishers.amqp_frames import PERSISTENT, Delivery
from es_django.outbox.publishers.serializers import Outcomes, encoded, format_named
from es_django.outbox.publishers.thread_local import SOCKET_TIMEOUT, PerThread, driver_of, opened

CONNECT_TIMEOUT = 5


class KombuPublisher(Publisher):
    """Publishes each message as persistent, with its type as the routing key and its headers as AMQP's.

    OPTIONS: `url` of the broker, with `amqp://` or `amqps://`; `exchange`, which must exist; `routing_key`, where it is
    not the message's type; `format`, "cloudevents" (in structured mode) or "json". A message that no queue takes is an
    error, since it would be lost.
    """

    def __init__(
        self, url: str, exchange: str = "", routing_key: str | None = None, format: str = "cloudevents"
    ) -> None:
        if driver_of(url) != "py-amqp":
            raise ImproperlyConfigured(
                "KombuPublisher's url begins with amqp:// or amqps://, since no other broker confirms messages; "
                "for redis:// there is RedisPublisher"
            )
        self._exchange = exchange
        self._routing_key = routing_key
        self._format = format_named(format)
        self._channel = PerThread(lambda: ConfirmingChannel(opened(_connection(url))), ConfirmingChannel.collect)

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        outcomes: Outcomes = {}
        unknown = PublishError("the broker has not confirmed it")
        channel = self._channel.get()
        try:
            channel.publish(
                self._deliveries(messages, outcomes),
                # A confirm that takes longer would come after the claim has run out.
                timeout=conf.settings().outbox.lease / 2,
                outcomes=outcomes,
            )
        except Exception as error:
            self._channel.discard()
            unknown = PublishError(repr(error))
        return [outcomes.get(index, unknown) for index in range(len(messages))]

    def _deliveries(self, messages: Sequence[Message], outcomes: Outcomes) -> Iterator[tuple[int, Delivery]]:
        for index, message, body in encoded(messages, self._format, outcomes):
            properties = {
                "content_type": self._format.content_type,
                "content_encoding": "utf-8",
                "application_headers": message.headers,
                "delivery_mode": PERSISTENT,
                "message_id": str(message.message_id),
            }
            yield index, Delivery(self._exchange, self._routing_key or message.type, properties, body)


def _connection(url: str) -> kombu.Connection:
    timeouts = {"read_timeout": SOCKET_TIMEOUT, "write_timeout": SOCKET_TIMEOUT}
    return kombu.Connection(url, connect_timeout=CONNECT_TIMEOUT, transport_options=timeouts)
