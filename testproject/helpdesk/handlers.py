from datetime import datetime

from es_django import Message, handles
from testproject.helpdesk.models import ClosingNotice


@handles("ticket.closed", consumer="customers")
def write_notice(message: Message) -> None:
    ClosingNotice.objects.create(
        message_id=message.message_id,
        ticket=message.data["ticket"],
        customer=message.data["customer"],
        closed_at=datetime.fromisoformat(message.data["closed_at"]),
    )
