"""Old receipts are deleted in small batches. Dead receipts stay."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from es_django.inbox.receipts import prune_receipts
from es_django.models import InboxReceipt
from es_django.tasks import prune

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)


def old(count: int, *, status: str = "handled", days: float = 31) -> None:
    InboxReceipt.objects.bulk_create(
        InboxReceipt(
            consumer="mailer", message_id=f"{status} {days} {n}", status=status, handled_at=Now() - timedelta(days=days)
        )
        for n in range(count)
    )


class TestPruneReceipts:
    def test_only_old_receipts_of_handled_messages_are_deleted(self) -> None:
        old(3)
        old(1, days=29)
        old(1, status="dead")
        assert prune_receipts(30 * DAY) == 3
        assert sorted(InboxReceipt.objects.values_list("message_id", flat=True)) == ["dead 31 0", "handled 29 0"]

    @pytest.mark.parametrize("count", [0, 4, 5])
    def test_all_old_receipts_are_deleted_in_batches(self, count: int) -> None:
        old(count)
        with CaptureQueriesContext(connection) as queries:
            assert prune_receipts(30 * DAY, batch_size=2) == count
        assert not InboxReceipt.objects.exists()
        assert sum(query["sql"].startswith("DELETE") for query in queries) == (count + 1) // 2

    def test_the_task_keeps_receipts_for_as_long_as_the_setting_says(self, settings: Settings) -> None:
        old(1, days=31)
        old(1, days=5)
        prune()
        assert InboxReceipt.objects.count() == 1
        settings.ES_DJANGO = {"INBOX": {"RETENTION_DAYS": 4}}
        prune()
        assert not InboxReceipt.objects.exists()

    def test_no_batch_begins_after_the_time_limit(self) -> None:
        old(3)
        assert prune_receipts(30 * DAY, batch_size=1, seconds=0) == 1

    def test_pruning_inside_a_transaction_is_rejected(self) -> None:
        with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
            prune_receipts(DAY)

    def test_old_receipts_are_found_by_an_index(self) -> None:
        old(2000, days=1)
        old(10)
        with CaptureQueriesContext(connection) as queries:
            prune_receipts(30 * DAY)
        (search,) = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE es_django_inboxreceipt")
            cursor.execute(f"EXPLAIN {'' if connection.vendor == 'postgresql' else 'QUERY PLAN'} {search}")
            plan = str(cursor.fetchall())
        assert "es_django_inbox_handled" in plan
        assert "Sort" not in plan
        assert "TEMP B-TREE" not in plan
