"""Each publisher delivers all messages of a loaded log to its real broker."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from django.core.management import call_command
from pytest_django import Settings

from es_django.models import OutboxMessage
from es_django.outbox.publishers import publisher_for
from es_django.outbox.publishers.memory import MemoryPublisher
from es_django.outbox.relay import relay
from tests.helpdesk.logs import column
from tests.outbox.publishers.brokers import BROKERS, Broker, close


@contextmanager
def memory(request: pytest.FixtureRequest) -> Iterator[Broker]:
    def arrived() -> list[UUID]:
        publisher = publisher_for("customers")
        assert isinstance(publisher, MemoryPublisher)
        return [message.message_id for message in publisher.published]

    yield Broker("memory.MemoryPublisher", {}, arrived)


EVERY = {**BROKERS, "memory": memory}


class TestPublishers:
    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("kind", EVERY)
    def test_each_message_arrives_once(
        self, kind: str, request: pytest.FixtureRequest, settings: Settings, generated_log: Path
    ) -> None:
        with EVERY[kind](request) as broker:
            settings.ES_DJANGO = {"DESTINATIONS": {"customers": broker.destination}}
            call_command("load_tickets", str(generated_log))
            sent = OutboxMessage.objects.order_by("message_id").values_list("message_id", flat=True)
            assert len(sent) == column(generated_log, "concept:name").count("Closed") > 200
            assert relay("customers") == len(sent)
            close(publisher_for("customers"))
            assert sorted(broker.arrived()) == list(sent)
        assert not OutboxMessage.objects.exclude(status="published").exists()
