"""A projection that sends a message for each event once, in every mode and number of partitions."""

from collections.abc import Callable
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from es_django import Event, Projection, RecordedEvent, StreamId, event_store, outbox, projects, upcasts
from es_django.models import OutboxMessage
from testproject.bank.models import LedgerEntry
from tests.conformance.tampering import add_events


class Reported(Event):
    text: str

    class Meta:
        name = "tests.reported"
        version = 2


@upcasts(Reported, from_version=1)
def one_each(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"text": text} for text in data["texts"]]


def _nothing(event: Reported) -> None:
    return


class Reporting(Projection):
    class Meta:
        name = "tests.reporting"
        mode = "async"
        models = [LedgerEntry]

    before_effect: Callable[[Reported], object] = staticmethod(_nothing)

    @projects
    def reported(self, event: Reported, recorded: RecordedEvent) -> None:
        LedgerEntry.objects.create(message_id=uuid5(NAMESPACE_OID, event.text), account=event.text, amount=0)
        outbox.send("tests", type="tests.report", data=event.text)
        Reporting.before_effect(event)


def report(*texts: str) -> None:
    """Append an event for each text, each to its own stream."""
    for text in texts:
        event_store.append(StreamId("report", text), [Reported(text=text)], expected=0)


def report_of_old(key: str, *texts: str) -> None:
    """Store an event of the previous schema version, which upcasts to one event for each text."""
    add_events(StreamId("report", key), ("tests.reported", 1, {"texts": list(texts)}))


def sent() -> list[str]:
    return list(OutboxMessage.objects.filter(type="tests.report").order_by("id").values_list("data", flat=True))


def read_model() -> set[str]:
    return set(LedgerEntry.objects.values_list("account", flat=True))
