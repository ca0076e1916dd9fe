"""Channels of RabbitMQ whose messages are all on their way before the first confirm is awaited.

The broker confirms a message once it is in its queues, in any order, and several at a time. It returns a message that
no queue takes just before it confirms it.
"""

import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

import amqp
import kombu
from amqp.exceptions import FrameSyntaxError

from es_django.outbox.errors import PublishError
from es_django.outbox.publishers.amqp_frames import Delivery, frames_of
from es_django.outbox.publishers.serializers import Outcomes

UNCONFIRMED = 100
"""How many messages may be on their way at once."""
WRITE = 4096
"""Bytes that are written at once; while the broker works on them, the next ones are made."""


class Confirms:
    """What the broker says of the messages on a channel of its own; not for use by several threads."""

    def __init__(self, connection: kombu.Connection) -> None:
        self.channel: Any = cast("Any", connection.channel())
        self._delivery_tag = 0
        self._unconfirmed: dict[int, tuple[Outcomes, int | None, str]] = {}
        self._unroutable: dict[str, PublishError] = {}
        self._outcomes: Outcomes = {}
        self._deadline = 0.0
        self.channel.events["basic_ack"].add(self._acked)
        self.channel.events["basic_nack"].add(self._nacked)
        self.channel.events["basic_return"].add(self._returned)
        self.channel.confirm_select()

    def begin(self, outcomes: Outcomes, *, timeout: float) -> None:
        """From now on `outcomes` gets what becomes of each message, and all is to be done after `timeout` seconds."""
        self._outcomes = outcomes
        self._deadline = time.monotonic() + timeout

    def expect(self, index: int | None, message_id: str) -> None:
        """Counts the next message of the channel, each in its order; without an index its outcome is not noted."""
        self._delivery_tag += 1
        # Of a batch that was broken off the confirms come with those of the next, whose indexes are the same.
        self._unconfirmed[self._delivery_tag] = (self._outcomes, index, message_id)

    def are_many_missing(self) -> bool:
        return len(self._unconfirmed) >= UNCONFIRMED

    def seconds_left(self) -> float:
        """Raises `TimeoutError` if none are left."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the broker has not confirmed it in time")
        return left

    def wait(self) -> None:
        """Returns when all are confirmed or refused. Raises what ends the connection or channel, and `TimeoutError`."""
        while self._unconfirmed:
            # With `drain_events` each heartbeat of the broker would begin the time anew.
            self.channel.connection.blocking_read(self.seconds_left())

    def _returned(self, error: Exception, exchange: str, routing_key: str, message: amqp.Message) -> None:
        self._unroutable[message.properties["message_id"]] = PublishError(f"no queue takes it: {error}")

    def _acked(self, delivery_tag: int, multiple: bool) -> None:
        for outcomes, index, message_id in self._confirmed(delivery_tag, multiple):
            outcome = self._unroutable.pop(message_id, None)
            if index is not None:
                outcomes[index] = outcome

    def _nacked(self, delivery_tag: int, multiple: bool) -> None:
        for outcomes, index, _ in self._confirmed(delivery_tag, multiple):
            if index is not None:
                outcomes[index] = PublishError("the broker refused it")

    def _confirmed(self, delivery_tag: int, multiple: bool) -> list[tuple[Outcomes, int | None, str]]:
        tags = [tag for tag in self._unconfirmed if tag <= delivery_tag] if multiple else [delivery_tag]
        return [self._unconfirmed.pop(tag) for tag in tags]


class ConfirmingChannel:
    """Publishes batches on a connection of its own; not for use by several threads."""

    def __init__(self, connection: kombu.Connection) -> None:
        self._connection = connection
        self._confirms = Confirms(connection)
        self._channel = self._confirms.channel
        self._unwritten = bytearray()

    def publish(
        self, deliveries: Iterable[tuple[int, Delivery]], *, exchange: str, timeout: float, outcomes: Outcomes
    ) -> None:
        """Publishes messages, each with its index, and notes in `outcomes` what became of it.

        It returns when all are confirmed or refused. Raises whatever ends the connection or the channel, and
        `TimeoutError` after `timeout` seconds; what is not in `outcomes` by then may have arrived or not.
        """
        self._confirms.begin(outcomes, timeout=timeout)
        frame_max = self._channel.connection.frame_max
        for index, delivery in deliveries:
            try:
                frames = frames_of(delivery, channel=self._channel.channel_id, exchange=exchange, frame_max=frame_max)
            except (struct.error, UnicodeError, FrameSyntaxError) as error:
                outcomes[index] = PublishError(f"AMQP cannot express it: {error}", retryable=False)
                continue
            self._unwritten += frames
            self._confirms.expect(index, delivery.message_id)
            if len(self._unwritten) >= WRITE:
                self._write()
            if self._confirms.are_many_missing():
                self._wait()
        self._wait()

    def collect(self) -> None:
        self._connection.collect()

    def _write(self) -> None:
        # It may say that it has closed the connection; and it would not read on for ever while it is not heard.
        with suppress(TimeoutError):
            while True:
                self._connection.drain_events(timeout=0)
        transport = self._channel.connection.transport
        with transport.having_timeout(self._confirms.seconds_left()):
            transport.write(self._unwritten)
        self._unwritten.clear()

    def _wait(self) -> None:
        if self._unwritten:
            self._write()
        self._confirms.wait()
