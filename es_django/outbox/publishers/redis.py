"""Sends messages to a queue that kombu and Celery keep in Redis."""

from collections.abc import Sequence
from typing import Any, cast

import kombu
import redis  # noqa: F401  # kombu would miss it no sooner than when it connects
from django.core.exceptions import ImproperlyConfigured

from es_django import conf
from es_django.messages.message import Message
from es_django.outbox.errors import PublishError
from es_django.outbox.publishers import Publisher
from es_django.outbox.publishers.serializers import Outcomes, encoded, format_named
from es_django.outbox.publishers.thread_local import ThreadConnection, driver_of

CONNECT_TIMEOUT = 5


class RedisPublisher(Publisher):
    """Pushes each message, in the form that kombu gives it, to the list of a queue, for kombu's consumers to read.

    OPTIONS: `url` of the broker, with `redis://` or `rediss://`; `queue`, its name; `format`, "cloudevents" (in
    structured mode) or "json". A message has arrived when Redis has it in the list. A queue that does not exist is
    created by that, and its messages wait for a consumer; how safe they are there is up to the persistence that Redis
    is configured for.
    """

    def __init__(self, url: str, queue: str, format: str = "cloudevents") -> None:
        if driver_of(url) != "redis":
            raise ImproperlyConfigured("RedisPublisher's url begins with redis:// or rediss://")
        self._queue = queue
        self._format = format_named(format)
        self._connection = ThreadConnection(lambda: _connection(url))

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        outcomes: Outcomes = {}
        pushed: PublishError | None = None
        connection = self._connection.get()
        try:
            producer = cast("Any", kombu.Producer(connection))
            # One pipeline: all are pushed, or it is not known which.
            with producer.batch():
                for _, message, body in encoded(messages, self._format, outcomes):
                    producer.publish(
                        body,
                        exchange="",
                        routing_key=self._queue,
                        content_type=self._format.content_type,
                        content_encoding="utf-8",
                        message_id=str(message.message_id),
                        headers=dict(message.headers),
                    )
        except Exception as error:
            self._connection.discard()
            cause = error.__cause__ or error
            pushed = PublishError(f"{type(cause).__name__}: {cause}")
        return [outcomes.get(index, pushed) for index in range(len(messages))]


def _connection(url: str) -> kombu.Connection:
    # An answer that takes longer would come after the claim has run out.
    timeouts = {"socket_timeout": conf.settings().outbox.lease / 2, "socket_connect_timeout": CONNECT_TIMEOUT}
    return kombu.Connection(url, transport_options=timeouts)
