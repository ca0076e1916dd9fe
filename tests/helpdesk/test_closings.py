from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.core.management import call_command

from es_django import StreamId
from es_django.testing import message, outbox_messages
from testproject.helpdesk.handlers import write_notice
from testproject.helpdesk.models import ClosingNotice
from tests.helpdesk.logs import row, write_log

pytestmark = pytest.mark.django_db


class TestClosings:
    def test_only_closings_are_published(self, tmp_path: Path) -> None:
        rows = [row("Case 1", "Wait"), row("Case 1", "Closed"), row("Case 2", "Resolve ticket")]
        call_command("load_tickets", str(write_log(tmp_path / "log.csv", rows)))
        (sent,) = outbox_messages()
        assert (sent.destination, sent.type, sent.key) == ("customers", "ticket.closed", "Case 1")
        assert sent.data == {"ticket": "Case 1", "customer": "Value 1", "closed_at": "2012-10-09T14:50:17Z"}
        assert (sent.stream, sent.stream_version) == (StreamId("ticket", "Case 1"), 2)

    def test_message_becomes_a_notice(self) -> None:
        closed_at = datetime(2012, 10, 9, 14, 50, 17, tzinfo=UTC)
        closing = message("ticket.closed", {"ticket": "Case 1", "customer": "Ada", "closed_at": closed_at})
        write_notice(closing)
        notice = ClosingNotice.objects.get(message_id=closing.message_id)
        assert (notice.ticket, notice.customer, notice.closed_at) == ("Case 1", "Ada", closed_at)
