from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.core.management import call_command

from es_django import Message
from es_django.models import OutboxMessage
from testproject.helpdesk.handlers import write_notice
from testproject.helpdesk.models import ClosingNotice
from tests.helpdesk.logs import row, write_log

pytestmark = pytest.mark.django_db


def test_a_closing_is_published_to_the_customers_and_no_other_step_is(tmp_path: Path) -> None:
    rows = [row("Case 1", "Wait"), row("Case 1", "Closed"), row("Case 2", "Resolve ticket")]
    call_command("load_tickets", str(write_log(tmp_path / "log.csv", rows)))
    message = OutboxMessage.objects.get()
    assert (message.destination, message.type, message.key) == ("customers", "ticket.closed", "Case 1")
    assert message.data == {"ticket": "Case 1", "customer": "Value 1", "closed_at": "2012-10-09T14:50:17Z"}
    assert message.stream is not None
    assert (message.stream.key, message.stream_version) == ("Case 1", 2)


def test_a_message_about_a_closing_becomes_a_notice() -> None:
    data = {"ticket": "Case 1", "customer": "Ada", "closed_at": "2012-10-09T14:50:17Z"}
    message = Message(type="ticket.closed", data=data)
    write_notice(message)
    notice = ClosingNotice.objects.get(message_id=message.message_id)
    assert (notice.ticket, notice.customer) == ("Case 1", "Ada")
    assert notice.closed_at == datetime(2012, 10, 9, 14, 50, 17, tzinfo=UTC)
