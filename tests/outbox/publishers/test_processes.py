"""Publishers work in forked processes, which Celery uses, and in several threads."""

import os
import threading
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from es_django.errors import PublishError
from es_django.outbox.publishers import publisher_for
from tests.outbox.publishers.brokers import BROKERS, Broker, close
from tests.outbox.publishers.messages import news


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Broker]:
    with BROKERS[request.param](request) as broker:
        settings.ES_DJANGO = {"DESTINATIONS": {"tests": broker.destination}}
        yield broker
        close(publisher_for("tests"))


class TestSharing:
    def test_a_process_and_its_forked_child_both_publish(self, broker: Broker) -> None:
        sent = news(6)
        assert publisher_for("tests").publish(sent[:2]) == [None, None]
        child = os.fork()
        if child == 0:
            os._exit(publisher_for("tests").publish(sent[2:4]) != [None, None])
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert publisher_for("tests").publish(sent[4:]) == [None, None]
        assert sorted(broker.arrived()) == [message.message_id for message in sent]

    def test_threads_publish_at_the_same_time(self, broker: Broker) -> None:
        sent = [news(50) for _ in range(4)]
        publisher = publisher_for("tests")
        outcomes: list[PublishError | None] = []
        start = threading.Barrier(len(sent))

        def publish(batch: int) -> None:
            start.wait(timeout=10)
            outcomes.extend(publisher.publish(sent[batch]))
            close(publisher)

        threads = [threading.Thread(target=publish, args=(batch,)) for batch in range(len(sent))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes == [None] * 200
        assert sorted(broker.arrived()) == sorted(message.message_id for batch in sent for message in batch)
