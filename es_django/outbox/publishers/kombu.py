"""Send messages to an exchange of RabbitMQ, which confirms each message."""

import time
from collections.abc import Iterator, Sequence

import kombu
from django.core.exceptions import ImproperlyConfigured

from es_django import conf
from es_django.messages.message import Message
from es_django.outbox.errors import PublishError
from es_django.outbox.publishers import Outcomes, Publisher
from es_django.outbox.publishers.amqp_confirms import ConfirmingChannel
from es_django.outbox.publishers.amqp_frames import PERSISTENT, Delivery
from es_django.outbox.publishers.broker_errors import is_about_message
from es_django.outbox.publishers.isolation import publish_isolated
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
        # A later confirm could arrive after the claim has expired.
        deadline = time.monotonic() + conf.settings().outbox.lease / 2

        def send(batch: Sequence[tuple[int, Message]], outcomes: Outcomes) -> None:
            channel = self._channel.get()
            try:
                deliveries = self._deliveries(batch, outcomes)
                channel.publish(deliveries, timeout=deadline - time.monotonic(), outcomes=outcomes)
            except Exception:
                self._channel.discard()
                raise

        return publish_isolated(messages, send, blames=is_about_message)

    def _deliveries(
        self, messages: Sequence[tuple[int, Message]], outcomes: Outcomes
    ) -> Iterator[tuple[int, Delivery]]:
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
