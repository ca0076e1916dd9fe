from es_django import Message, StagedEvent, publishes
from testproject.helpdesk.events import StepTaken


@publishes(StepTaken, destination="customers")
def closed(staged: StagedEvent[StepTaken]) -> Message | None:
    step = staged.event
    if not step.closes:
        return None
    ticket = staged.stream.key
    data = {"ticket": ticket, "customer": step.customer, "closed_at": step.at}
    return Message(type="ticket.closed", key=ticket, data=data)
