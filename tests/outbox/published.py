"""An event class whose events are published to the destination "tests"."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from es_django import Event, Message, StagedEvent, publishes


class Announced(Event):
    text: str

    class Meta:
        name = "tests.announced"


@publishes(Announced, destination="tests")
def announce(staged: StagedEvent[Announced]) -> dict[str, Any] | Message | None:
    event = staged.event
    if event.text == "secret":
        return None
    if event.text.startswith("id "):
        return Message(type="announced.with_id", data=None, message_id=UUID(event.text[3:]))
    if event.text == "in full":
        return Message(type="announced.in_full", data=[event.text], key="own key", headers={"own": "header"})
    if event.text == "in an hour":
        return Message(type="announced.late", data=None, delay=timedelta(hours=1))
    return {"text": event.text}
