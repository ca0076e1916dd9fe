"""A channel of RabbitMQ that sends many messages before it waits for the first confirm.

RabbitMQ confirms a message once its queues have stored it. Confirms arrive in any order, and one confirm may cover
several messages. If no queue takes a message, RabbitMQ returns the message, and then confirms it as well.
"""

import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

import amqp
import kombu
from amqp.exceptions import FrameSyntaxError

from es_django.outbox.errors import DestinationUnreachable, PublishError
from es_django.outbox.publishers import Outcomes
from es_django.outbox.publishers.amqp_frames import Delivery, frames_of

MAX_UNCONFIRMED = 100
"""How many messages may wait for their confirms at once."""
WRITE_SIZE = 4096
"""Frames are written to the socket once this many bytes are ready. While the broker reads them, Python builds more."""


class ConfirmingChannel:
    """Publishes batches on a connection of its own. Not safe for use by several threads."""

    def __init__(self, connection: kombu.Connection) -> None:
        self._connection = connection
        self._channel: Any = cast("Any", connection.channel())
        self._unwritten = bytearray()
        self._deadline = 0.0
        self._delivery_tag = 0
        self._unconfirmed: dict[int, tuple[Outcomes, int, str]] = {}
        self._unroutable: dict[str, PublishError] = {}
        self._channel.events["basic_ack"].add(self._acked)
        self._channel.events["basic_nack"].add(self._nacked)
        self._channel.events["basic_return"].add(self._returned)
        self._channel.connection.on_blocked = _raise_blocked
        self._channel.confirm_select()

    def publish(self, deliveries: Iterable[tuple[int, Delivery]], *, timeout: float, outcomes: Outcomes) -> None:
        """Publish each delivery, and write its outcome to `outcomes` under its index.

        Return when the broker has confirmed or refused every delivery. If this raises, a delivery without an outcome
        may have arrived or not.

        Raises:
            DestinationUnreachable: the broker blocks all publishers, as it does when its memory or disk is full.
            TimeoutError: `timeout` seconds have passed.
            Exception: the connection or the channel was closed.
        """
        self._deadline = time.monotonic() + timeout
        channel_id, frame_max = self._channel.channel_id, self._channel.connection.frame_max
        for index, delivery in deliveries:
            try:
                frames = frames_of(delivery, channel=channel_id, frame_max=frame_max)
            except (struct.error, UnicodeError, FrameSyntaxError) as error:
                outcomes[index] = PublishError(f"AMQP cannot express the message: {error}", retryable=False)
                continue
            self._unwritten += frames
            self._delivery_tag += 1
            # Late confirms of an interrupted batch arrive during the next batch, which has the same indexes. So each
            # tag remembers the outcomes of its own batch.
            self._unconfirmed[self._delivery_tag] = outcomes, index, delivery.properties.get("message_id", "")
            if len(self._unwritten) >= WRITE_SIZE:
                self._write()
            if len(self._unconfirmed) >= MAX_UNCONFIRMED:
                self._wait()
        self._wait()

    def seconds_left(self) -> float:
        """Return the seconds left for the current batch. Raise `TimeoutError` if none are left."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the broker did not confirm the messages in time")
        return left

    def collect(self) -> None:
        self._connection.collect()

    def _write(self) -> None:
        # Read before writing, for two reasons: to notice that the broker has closed the connection, and because the
        # broker stops reading while its own frames are not read.
        with suppress(TimeoutError):
            while True:
                self._connection.drain_events(timeout=0)
        transport = self._channel.connection.transport
        with transport.having_timeout(self.seconds_left()):
            transport.write(self._unwritten)
        self._unwritten.clear()

    def _wait(self) -> None:
        if self._unwritten:
            self._write()
        while self._unconfirmed:
            # `drain_events` would not do: each heartbeat of the broker restarts its timeout.
            self._channel.connection.blocking_read(self.seconds_left())

    def _returned(self, error: Exception, exchange: str, routing_key: str, message: amqp.Message) -> None:
        unroutable = DestinationUnreachable(f"no queue takes the message: {error}")
        self._unroutable[message.properties["message_id"]] = unroutable

    def _acked(self, delivery_tag: int, multiple: bool) -> None:
        for outcomes, index, message_id in self._confirmed(delivery_tag, multiple):
            outcomes[index] = self._unroutable.pop(message_id, None)

    def _nacked(self, delivery_tag: int, multiple: bool) -> None:
        for outcomes, index, _ in self._confirmed(delivery_tag, multiple):
            outcomes[index] = DestinationUnreachable("the broker refused the message: is its queue full?")

    def _confirmed(self, delivery_tag: int, multiple: bool) -> list[tuple[Outcomes, int, str]]:
        tags = [tag for tag in self._unconfirmed if tag <= delivery_tag] if multiple else [delivery_tag]
        return [self._unconfirmed.pop(tag) for tag in tags]


def _raise_blocked(reason: str) -> None:
    raise DestinationUnreachable(f"the broker blocks publishers: is its memory or disk full? {reason}", is_certain=True)
