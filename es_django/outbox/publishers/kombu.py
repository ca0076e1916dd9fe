"""Send messages to an exchange of RabbitMQ, which confirms each message."""

from collections.abc import Iterator, Sequence

import kombu
from django.core.exceptions import ImproperlyConfigured

from es_django import conf
from es_django.messages.message import Message
from es_django.outbox.errors import PublishError
from es_django.outbox.publishers import Outcomes, Publisher
from es_django.outbox.publishers.amqp_confirms import ConfirmingChannel
from es_django.outbox.publishers.amqp_frames import PERSISTENT, Delivery
from es_django.outbox.publishers.serializers import encode_all, format_named
from es_django.outbox.publishers.thread_local import SOCKET_TIMEOUT, PerThread, driver_of, open_connection

CONNECT_TIMEOUT = 5


class KombuPublisher(Publisher):
    """Publishes each message as persistent, with the message's headers as AMQP headers.

    | option | |
    | --- | --- |
    | `url` | the URL of the broker: `amqp://` or `amqps://` |
    | `exchange` | an existing exchange; by default, the broker's default exchange |
    | `routing_key` | the routing key; by default, the message's type |
    | `format` | "cloudevents" (in structured mode) or "json" |

    If no queue takes a message, RabbitMQ drops it. Such a message counts as not published, and is retried.
    """

    def __init__(
        self, url: str, exchange: str = "", routing_key: str | None = None, format: str = "cloudevents"
    ) -> None:
        if driver_of(url) != "py-amqp":
            raise ImproperlyConfigured(
                "the option url of KombuPublisher must start with amqp:// or amqps://, because other brokers do not "
                "confirm messages; for redis:// use RedisPublisher"
            )
        self._exchange = exchange
        self._routing_key = routing_key
        self._format = format_named(format)
        self._channel = PerThread(
            lambda: ConfirmingChannel(open_connection(_connection(url))), ConfirmingChannel.collect
        )

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        outcomes: Outcomes = {}
        unknown = PublishError("the broker has not confirmed the message")
        channel = self._channel.get()
        try:
            channel.publish(
                self._deliveries(messages, outcomes),
                # A later confirm could arrive after the claim has expired.
                timeout=conf.settings().outbox.lease / 2,
                outcomes=outcomes,
            )
        except Exception as error:
            self._channel.discard()
            unknown = PublishError(repr(error))
        return [outcomes.get(index, unknown) for index in range(len(messages))]

    def _deliveries(self, messages: Sequence[Message], outcomes: Outcomes) -> Iterator[tuple[int, Delivery]]:
        for index, message, body in encode_all(messages, self._format, outcomes):
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
