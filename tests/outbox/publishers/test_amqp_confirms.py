"""Confirms and returns of a broker lead to the right outcomes, in every order in which they may arrive."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, cast

import amqp
import kombu
import pytest

from es_django.outbox.publishers import Outcomes, amqp_confirms
from es_django.outbox.publishers.amqp_confirms import ConfirmingChannel
from es_django.outbox.publishers.amqp_frames import Delivery

Reply = tuple[Any, ...]

BODY = b"the body of a message"


class ScriptedChannel:
    """Accept every message, and send the replies of a script when the publisher waits for a reply."""

    channel_id = 1
    frame_max = 131_072

    def __init__(self, script: list[Reply]) -> None:
        self.events: dict[str, set[Callable[..., None]]] = defaultdict(set)
        self.connection = self.transport = self
        self.script = script
        self.sent = 0
        self.sent_before_each_reply: list[int] = []

    def confirm_select(self) -> None:
        pass

    def having_timeout(self, timeout: float) -> nullcontext[None]:
        return nullcontext()

    def write(self, frames: bytes) -> None:
        self.sent += frames.count(BODY)

    def blocking_read(self, timeout: float) -> None:
        self.sent_before_each_reply.append(self.sent)
        event, *arguments = self.script.pop(0)
        if event == "lost":
            raise ConnectionResetError
        for callback in self.events[event]:
            callback(*arguments)


class ScriptedConnection:
    def __init__(self, script: list[Reply]) -> None:
        self._channel = ScriptedChannel(script)

    def channel(self) -> ScriptedChannel:
        return self._channel

    def drain_events(self, timeout: float) -> None:
        raise TimeoutError


def ack(tag: int, multiple: bool = False) -> Reply:
    return "basic_ack", tag, multiple


def nack(tag: int, multiple: bool = False) -> Reply:
    return "basic_nack", tag, multiple


def returned(index: int) -> Reply:
    return "basic_return", amqp.NotFound("NO_ROUTE"), "", "key", amqp.Message(message_id=str(index))


LOST: Reply = ("lost",)
CASES: dict[str, tuple[list[Reply], dict[int, str]]] = {
    "one by one": ([ack(1), ack(2), ack(3), ack(4)], {}),
    "all at once": ([ack(4, True)], {}),
    "the last first": ([ack(4), ack(2), ack(3, True)], {}),
    "some at once and the rest singly": ([ack(2, True), ack(4), ack(3)], {}),
    "one refused": ([ack(2, True), nack(3), ack(4)], {2: "refused"}),
    "several refused at once": ([ack(3), nack(2, True), ack(4)], {0: "refused", 1: "refused"}),
    "one returned, long before its confirm": ([returned(1), ack(4, True)], {1: "no queue"}),
    "two returned in another order": ([returned(3), returned(0), ack(4, True)], {0: "no queue", 3: "no queue"}),
}


DELIVERIES = [(index, Delivery("", "key", {"message_id": str(index)}, BODY)) for index in range(4)]


def published(script: list[Reply], outcomes: Outcomes) -> list[int]:
    """Publish four messages. Return how many had been sent before each reply of the script."""
    connection = ScriptedConnection(script)
    channel = ConfirmingChannel(cast("kombu.Connection", connection))
    channel.publish(DELIVERIES, timeout=5, outcomes=outcomes)
    return connection.channel().sent_before_each_reply


class TestConfirms:
    @pytest.mark.parametrize("case", CASES)
    def test_each_message_gets_the_outcome_that_the_broker_sends(self, case: str) -> None:
        script, errors = CASES[case]
        outcomes: Outcomes = {}
        published(list(script), outcomes)
        assert sorted(outcomes) == [0, 1, 2, 3]
        assert {index for index, error in outcomes.items() if error is not None} == set(errors)
        assert all(reason in str(outcomes[index]) for index, reason in errors.items())

    def test_messages_without_a_confirm_have_no_outcome_after_a_lost_connection(self) -> None:
        outcomes: Outcomes = {}
        with pytest.raises(ConnectionResetError):
            published([ack(1), ack(3), LOST], outcomes)
        assert outcomes == {0: None, 2: None}

    def test_late_confirms_are_credited_to_the_batch_that_sent_the_message(self) -> None:
        def interrupted() -> Iterator[tuple[int, Delivery]]:
            yield from DELIVERIES
            raise SystemExit

        channel = ConfirmingChannel(cast("kombu.Connection", ScriptedConnection([ack(4, True), LOST])))
        first: Outcomes = {}
        second: Outcomes = {}
        with pytest.raises(SystemExit):
            channel.publish(interrupted(), timeout=5, outcomes=first)
        with pytest.raises(ConnectionResetError):
            channel.publish(DELIVERIES, timeout=5, outcomes=second)
        assert (sorted(first), second) == ([0, 1, 2, 3], {})


class TestWaiting:
    def test_all_messages_are_sent_before_the_first_confirm_is_awaited(self) -> None:
        assert published([ack(1), ack(2), ack(3), ack(4)], {}) == [4, 4, 4, 4]

    def test_the_number_of_unconfirmed_messages_is_limited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(amqp_confirms, "MAX_UNCONFIRMED", 2)
        assert published([ack(1), ack(2), ack(3), ack(4)], {}) == [2, 2, 4, 4]
