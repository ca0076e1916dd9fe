"""An event class whose events are published to the destination "tests"."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from es_django import Event, Message, StagedEvent, publishes


class Told(Event):
    text: str

    class Meta:
        name = "tests.told"


@publishes(Told, destination="tests")
def tell(staged: StagedEvent[Told]) -> dict[str, Any] | Message | None:
    event = staged.event
    if event.text == "secret":
        return None
    if event.text.startswith("id "):
        return Message(type="told.with_id", data=None, message_id=UUID(event.text[3:]))
    if event.text == "in full":
        return Message(type="told.in_full", data=[event.text], key="own key", headers={"own": "header"})
    if event.text == "in an hour":
        return Message(type="told.late", data=None, delay=timedelta(hours=1))
    return {"text": event.text}
