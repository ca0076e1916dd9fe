from collections.abc import Callable

import pytest

from es_django.models import InboxReceipt, OutboxMessage, ProjectionCheckpoint, Snapshot
from tests.admin.builders import checkpoint, list_url, message, notes, page_url, receipt, stored_event, stream_of
from tests.admin.pages import Page

Get = Callable[..., Page]


class TestMessages:
    @pytest.mark.parametrize(
        ("status", "badge", "step"),
        [
            ("pending", "○ Pending", "due"),
            ("claimed", "◐ Claimed", "claimed until 2026-03-01 12:00:05 UTC"),
            ("published", "✓ Published", "published 2026-03-01 12:00:05 UTC"),
            ("dead", "✕ Dead", "failed 2026-03-01 12:00:05 UTC"),
        ],
    )
    def test_row_shows_the_status_and_its_time(self, get: Get, status: str, badge: str, step: str) -> None:
        sent = message(status)
        page = get(list_url(OutboxMessage))
        assert page.column("status_and_shape") == [badge]
        assert page.column("step")[0].startswith(step)
        assert page.column("destination") == ["ledger"]
        assert page.column("key") == ["note-1"]
        assert page.column("attempts") == [str(sent.attempts)]
        assert page.link("tests.announced") == page_url(sent)

    def test_long_error_is_cut_only_in_the_list(self, get: Get) -> None:
        error = "the server said: " + "no " * 200 + "<end>"
        sent = message("dead", last_error=error)
        (shown,) = get(list_url(OutboxMessage)).column("error")
        assert len(shown) <= 100
        assert get(page_url(sent)).one("pre.es-error").text == error

    def test_page_shows_status_and_history(self, get: Get) -> None:
        notes(30)
        sent = message("dead", stream=stream_of(), stream_version=27)
        page = get(page_url(sent))
        facts = page.facts
        assert facts["Status"] == "✕ Dead"
        assert facts["Failed"] == "2026-03-01 12:00:05 UTC"
        assert facts["Last error"] == "the mailbox is <full>"
        assert facts["Message id"] == str(sent.message_id)
        assert facts["Source"] == "note note-1 at version 27"
        assert page.link("note note-1 at version 27") == f"{page_url(stream_of())}?from=26#v27"
        data, headers = page.all("pre.es-json")
        assert data.raw_text == '{\n  "announced": "<script>alert(1)</script>"\n}'
        assert headers.raw_text == '{\n  "correlation_id": "request-7"\n}'
        assert "<script>alert" not in page.html

    def test_claimed_message_names_its_worker(self, get: Get) -> None:
        facts = get(page_url(message("claimed"))).facts
        assert facts["Claimed by"] == "worker-1"
        assert facts["Claimed until"] == "2026-03-01 12:00:05 UTC"

    def test_page_leaves_out_empty_facts(self, get: Get) -> None:
        assert {"Key", "Source", "Last error"}.isdisjoint(get(page_url(message(key=None))).facts)


class TestReceipts:
    def test_dead_receipt_shows_its_message(self, get: Get) -> None:
        kept = receipt(status="dead", attempts=3, last_error="no such customer", message={"data": {"ticket": "1"}})
        page = get(list_url(InboxReceipt), status="dead")
        assert page.column("status_and_shape") == ["✕ Dead"]
        assert page.column("error") == ["no such customer"]
        page = get(page_url(kept))
        assert page.facts["Consumer"] == "mailer"
        assert '"ticket": "1"' in page.one("pre.es-json").raw_text

    def test_handled_receipt_shows_no_message(self, get: Get) -> None:
        assert get(page_url(receipt())).all("pre") == []


class TestProjections:
    def test_page_shows_lag_and_error(self, get: Get) -> None:
        last = notes(5)[-1].position
        checkpoint(name="steps", position=last)
        failed = checkpoint(
            name="totals",
            position=last - 3,
            status="failed",
            attempts=5,
            failed_position=last - 2,
            last_error="KeyError",
        )
        page = get(list_url(ProjectionCheckpoint))
        assert page.column("name") == ["steps", "totals"]
        assert page.column("status_and_shape") == ["✓ Running", "✕ Failed"]
        assert page.column("behind") == ["none", "3 positions, 0 s"]
        page = get(page_url(failed))
        assert page.facts["Failed at"] == f"position {last - 2}"
        assert page.link(f"position {last - 2}") == page_url(stored_event(3))

    def test_empty_log_means_no_lag(self, get: Get) -> None:
        checkpoint()
        assert get(list_url(ProjectionCheckpoint)).column("behind") == ["none"]


class TestSnapshots:
    def test_page_shows_the_state_of_a_snapshot(self, get: Get) -> None:
        notes(4)
        snapshot = Snapshot.objects.create(stream=stream_of(), version=4, schema="Note:1", state='{"text":"note 4"}')
        page = get(page_url(snapshot))
        assert page.facts["Version"] == "4"
        assert page.link("note note-1") == page_url(stream_of())
        assert page.one("pre").raw_text == '{\n  "text": "note 4"\n}'
