"""Send messages to a queue in Redis, in the format that kombu and Celery use."""

from collections.abc import Sequence
from typing import Any, cast

import kombu
from django.core.exceptions import ImproperlyConfigured
from redis import Redis  # noqa: F401  # if the package is missing, fail here; kombu would fail only when it connects

from es_django import conf
from es_django.messages.message import Message
from es_django.outbox.errors import PublishError
from es_django.outbox.publishers import Outcomes, Publisher
from es_django.outbox.publishers.broker_errors import may_be_about_message
from es_django.outbox.publishers.isolation import publish_isolated
from es_django.outbox.publishers.serializers import encode_all, format_named
from es_django.outbox.publishers.thread_local import BrokerPerThread, driver_of

CONNECT_TIMEOUT = 5


class RedisPublisher(Publisher):
    """Pushes each message in kombu's format to the Redis list of a queue, from which kombu's consumers read.

    | option | |
    | --- | --- |
    | `url` | the URL of the broker: `redis://` or `rediss://` |
    | `queue` | the name of the queue |
    | `format` | "cloudevents" (in structured mode) or "json" |

    A message counts as published when Redis has added it to the list. Redis creates a missing queue, so check the name:
    messages wait there until a consumer reads them. Whether messages survive a restart depends on the persistence
    settings of Redis.
    """

    def __init__(self, url: str, queue: str, format: str = "cloudevents") -> None:
        if driver_of(url) != "redis":
            raise ImproperlyConfigured("the option url of RedisPublisher must start with redis:// or rediss://")
        self._queue = queue
        self._format = format_named(format)
        self._connection = BrokerPerThread(lambda: _connection(url))

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        def send(batch: Sequence[tuple[int, Message]], outcomes: Outcomes) -> None:
            connection = self._connection.get()
            try:
                # One pipeline for all messages: Redis adds all of them, or none.
                producer = cast("Any", kombu.Producer(connection))
                with producer.batch():
                    encoded = list(encode_all(batch, self._format, outcomes))
                    for _, message, body in encoded:
                        producer.publish(
                            body,
                            exchange="",
                            routing_key=self._queue,
                            content_type=self._format.content_type,
                            content_encoding="utf-8",
                            message_id=str(message.message_id),
                            headers=dict(message.headers),
                        )
            except Exception:
                self._connection.discard()
                raise
            outcomes.update({index: None for index, _, _ in encoded})

        return publish_isolated(messages, send, blames=may_be_about_message)


def _connection(url: str) -> kombu.Connection:
    # A later reply could arrive after the claim has expired.
    timeouts = {"socket_timeout": conf.settings().outbox.lease / 2, "socket_connect_timeout": CONNECT_TIMEOUT}
    return kombu.Connection(url, transport_options=timeouts)
