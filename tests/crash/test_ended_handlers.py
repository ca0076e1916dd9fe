"""Whatever ends a handler, its message comes back, takes effect once, or is visibly dead. Real workers and brokers."""

from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from es_django.inbox.retries import LOST
from es_django.models import InboxReceipt, ProjectionCheckpoint
from testproject.celery import app
from tests.crash.deadly.handlers import ENDS
from tests.crash.workers import queue_on
from tests.inbox.deliveries import make_due

pytestmark = pytest.mark.django_db(transaction=True)

LIMITS: dict[str, Any] = {"CELERY_TASK_TIME_LIMIT": 4, "CELERY_TASK_SOFT_TIME_LIMIT": 2}
CARELESS: dict[str, Any] = {
    "CELERY_TASK_ACKS_LATE": False,
    "CELERY_TASK_ACKS_ON_FAILURE_OR_TIMEOUT": True,
    "CELERY_TASK_REJECT_ON_WORKER_LOST": False,
    "CELERY_TASK_IGNORE_RESULT": False,
    "CELERY_TASK_TRACK_STARTED": True,
}
CAREFUL: dict[str, Any] = {
    "CELERY_TASK_ACKS_LATE": True,
    "CELERY_TASK_ACKS_ON_FAILURE_OR_TIMEOUT": False,
    "CELERY_TASK_REJECT_ON_WORKER_LOST": True,
    "CELERY_WORKER_MAX_TASKS_PER_CHILD": 1,
}
ANNOTATED: dict[str, Any] = {"CELERY_TASK_ANNOTATIONS": {"*": {"acks_late": False, "acks_on_timeout": True}}}


@pytest.fixture(autouse=True)
def _the_sweep_has_the_settings_of_the_workers(settings: Settings) -> None:
    settings.ES_DJANGO = {"INBOX": {"MAX_ATTEMPTS": 3, "BACKOFF": {"base": 0.1, "max": 0.2}}}


def all_handled(count: int) -> bool:
    return InboxReceipt.objects.filter(status="handled").count() == count


class TestEndedHandlers:
    @pytest.mark.requires_postgresql  # in SQLite, a handler that hangs stops all others until it is killed
    @pytest.mark.parametrize(
        ("broker", "configured"),
        [("rabbitmq", CARELESS), ("rabbitmq", CAREFUL), ("rabbitmq", ANNOTATED), ("redis", CARELESS)],
        ids=["careless", "careful", "annotated", "redis"],
    )
    def test_fault_e1_a_message_comes_back_however_its_handler_ended(
        self, broker: str, configured: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        url = request.getfixturevalue(f"{broker}_url")
        with queue_on(url, tmp_path) as queue, queue.worker("--concurrency", "3", **LIMITS, **configured) as worker:
            messages = {end: queue.send("tests.ends", end) for end in ENDS}
            revoked = messages["revoked"].message_id
            worker.wait_until(lambda: (tmp_path / str(revoked)).exists(), timeout=60)
            app.control.revoke(str(revoked), terminate=True, signal="SIGKILL", connection=queue.broker)
            worker.wait_until(
                lambda: all((tmp_path / str(each.message_id)).exists() for each in messages.values()), timeout=60
            )
            queue.wait(worker, lambda: all_handled(len(ENDS)))
        assert ProjectionCheckpoint.objects.count() == len(ENDS)
        assert set(InboxReceipt.objects.values_list("attempts", flat=True)) <= {2, 3}

    @pytest.mark.parametrize("pool", ["solo", "threads"])
    def test_fault_e1_a_message_comes_back_in_pools_without_processes(
        self, pool: str, rabbitmq_url: str, tmp_path: Path
    ) -> None:
        with queue_on(rabbitmq_url, tmp_path) as queue:
            with queue.worker("--pool", pool, **CARELESS) as worker:
                queue.send("tests.ends", "sys.exit")
                queue.wait(worker, lambda: all_handled(1))
                killed = queue.send("tests.ends", "hard limit")
                worker.wait_until(lambda: (tmp_path / str(killed.message_id)).exists(), timeout=60)
            with queue.worker("--pool", pool, **CARELESS) as worker:
                queue.wait(worker, lambda: all_handled(2))
        assert ProjectionCheckpoint.objects.count() == 2

    def test_fault_e1_a_message_that_is_revoked_before_its_handler_began_is_visibly_dead(
        self, rabbitmq_url: str, tmp_path: Path
    ) -> None:
        with queue_on(rabbitmq_url, tmp_path) as queue, queue.worker("--concurrency", "1") as worker:
            first = queue.send("tests.ends", "hard limit")
            worker.wait_until(lambda: (tmp_path / str(first.message_id)).exists(), timeout=60)
            second = queue.send("tests.harmless")
            app.control.revoke(str(second.message_id), connection=queue.broker)
            app.control.revoke(str(first.message_id), terminate=True, signal="SIGKILL", connection=queue.broker)
            queue.wait(worker, lambda: InboxReceipt.objects.filter(status="dead").exists() and all_handled(1))
        receipt = InboxReceipt.objects.get(status="dead")
        assert receipt.message_id == str(second.message_id)
        assert receipt.last_error == "Celery ended the task: revoked"

    @pytest.mark.parametrize("configured", [CARELESS, CAREFUL], ids=["careless", "careful"])
    def test_a_message_that_kills_its_workers_becomes_dead_and_others_are_handled(
        self, configured: dict[str, Any], rabbitmq_url: str, tmp_path: Path
    ) -> None:
        with queue_on(rabbitmq_url, tmp_path) as queue, queue.worker("--concurrency", "1", **configured) as worker:
            queue.send("tests.deadly")
            queue.send("tests.harmless")
            queue.wait(worker, lambda: InboxReceipt.objects.filter(status__in=["handled", "dead"]).count() == 2)
        receipts = {receipt.consumer: receipt for receipt in InboxReceipt.objects.all()}
        assert (receipts["harmless"].status, receipts["deadly"].status) == ("handled", "dead")
        assert receipts["deadly"].last_error == LOST
        assert receipts["deadly"].attempts == 3
        assert 1 <= len((tmp_path / "deaths").read_text()) <= 3


class TestRestartedWorkers:
    def test_fault_b3_messages_that_wait_for_their_retry_survive_workers_that_are_restarted(
        self, rabbitmq_url: str, tmp_path: Path
    ) -> None:
        count = 20
        with queue_on(rabbitmq_url, tmp_path) as queue:
            messages = [queue.send("tests.later") for _ in range(count)]
            waiting = InboxReceipt.objects.filter(status="retrying", attempts=1)
            with queue.worker("--concurrency", "2") as worker:
                worker.wait_until(lambda: waiting.count() == count, timeout=60)
            for kill in (True, False, True):
                fresh = queue.send("tests.harmless")
                with queue.worker("--concurrency", "2") as worker:
                    handled = InboxReceipt.objects.filter(message_id=str(fresh.message_id), status="handled")
                    worker.wait_until(handled.exists, timeout=60)
                    if not kill:
                        worker.terminate()
                        worker.exit_code(timeout=60)
                assert waiting.count() == count
            make_due()
            with queue.worker("--concurrency", "2") as worker:
                queue.wait(worker, lambda: all_handled(count + 3))
        found = InboxReceipt.objects.filter(message_id__in=[str(each.message_id) for each in messages])
        assert set(found.values_list("attempts", flat=True)) == {2}
        assert ProjectionCheckpoint.objects.count() == count
