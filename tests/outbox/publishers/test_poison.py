"""A message that cannot be sent never fails the other messages of its batch, on any transport."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID, uuid4

import kombu
import pytest
from pytest_django import Settings

from es_django import Message
from es_django.outbox.publishers import Outcomes, publisher_for
from es_django.outbox.publishers.isolation import publish_isolated
from tests.outbox.publishers.brokers import BROKERS, Broker, close
from tests.outbox.publishers.messages import news


@contextmanager
def celery_over_redis(request: pytest.FixtureRequest) -> Iterator[Broker]:
    url, patch = request.getfixturevalue("redis_url"), request.getfixturevalue("monkeypatch")
    patch.setenv("CELERY_BROKER_URL", url)
    queue = f"es_django.tests.{uuid4().hex}"
    with kombu.Connection(url) as connection:
        client: Any = cast("Any", connection.default_channel).client

        def arrived() -> list[UUID]:
            with connection.SimpleQueue(queue, no_ack=True) as waiting:
                tasks = [waiting.get(timeout=5) for _ in range(client.llen(queue))]
            return [UUID(task.payload[0][0]["message_id"]) for task in tasks]

        yield Broker("celery.CeleryPublisher", {"queue": queue}, arrived)
        client.delete(queue)


TRANSPORTS = {**BROKERS, "celery over redis": celery_over_redis}


@pytest.fixture(params=TRANSPORTS)
def broker(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Broker]:
    with TRANSPORTS[request.param](request) as broker:
        settings.ES_DJANGO = {"DESTINATIONS": {"tests": broker.destination}}
        yield broker
        close(publisher_for("tests"))


class TestPoison:
    def test_fault_e13_one_message_that_cannot_be_encoded_fails_alone_at_every_place(self, broker: Broker) -> None:
        delivered: list[UUID] = []
        for place in range(5):
            batch = news(5)
            batch[place] = Message(type="city.news", data={"bad": object()}, destination="tests")
            outcomes = publisher_for("tests").publish(batch)
            assert [index for index, outcome in enumerate(outcomes) if outcome is not None] == [place]
            delivered += [message.message_id for index, message in enumerate(batch) if index != place]
        assert sorted(broker.arrived()) == sorted(delivered)


class TooLarge(Exception):
    pass


class TestIsolation:
    @pytest.mark.parametrize("place", range(5))
    @pytest.mark.parametrize("known", [0, 1])
    def test_fault_e13_the_message_that_a_broker_refuses_is_found(self, place: int, known: int) -> None:
        calls: list[int] = []

        def send(batch: Any, outcomes: Outcomes) -> None:
            calls.append(len(batch))
            for index, _ in batch[:known]:
                if index != place:
                    outcomes[index] = None
            if any(index == place for index, _ in batch):
                raise TooLarge
            outcomes.update({index: None for index, _ in batch})

        outcomes = publish_isolated(news(5), send, blames=_is_too_large)
        assert [index for index, outcome in enumerate(outcomes) if outcome is not None] == [place]
        assert len(calls) < 9

    def test_fault_e13_an_error_that_blames_no_message_is_the_outcome_of_the_unknown_ones(self) -> None:
        def send(batch: Any, outcomes: Outcomes) -> None:
            outcomes[0] = None
            raise OSError("cut")

        outcomes = publish_isolated(news(3), send, blames=_is_too_large)
        assert [str(outcome) for outcome in outcomes] == ["None", "OSError: cut", "OSError: cut"]


_is_too_large: Callable[[Exception], bool] = lambda error: isinstance(error, TooLarge)  # noqa: E731
