"""Each setting of Celery that would lose a message or stop a sweep has a check, or makes no difference."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from celery import current_app
from django.core.checks import CheckMessage
from pytest_django import Settings

from es_django import tasks
from es_django.celery_checks import check_celery
from es_django.tasks import DELIVERY, SWEEP, SWEEPS

CELERY = "es_django.outbox.publishers.celery.CeleryPublisher"
conf: Any = current_app.conf


def checked() -> dict[str, CheckMessage]:
    found = {str(each.id): each for each in check_celery()}
    assert all(each.hint for each in found.values())
    return found


@pytest.fixture(autouse=True)
def _ledger(settings: Settings) -> None:
    settings.ES_DJANGO = {"DESTINATIONS": {"ledger": {"PUBLISHER": CELERY}}}


@pytest.fixture
def celery_settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that changes settings of Celery until the test ends."""

    def change(**changed: Any) -> None:
        for name, value in changed.items():
            monkeypatch.setitem(conf, name, value)

    return change


class TestSettings:
    def test_the_sample_project_has_no_message(self) -> None:
        assert checked() == {}

    @pytest.mark.parametrize(
        "changed",
        [
            {"task_time_limit": 60},
            {"task_soft_time_limit": 20, "task_time_limit": 30},
            {"task_soft_time_limit": 600},
            {"task_default_rate_limit": "1/h"},
            {"task_serializer": "pickle"},
            {"task_ignore_result": False, "task_track_started": True},
            {"task_acks_late": False, "task_reject_on_worker_lost": False},
        ],
    )
    def test_fault_e2_settings_for_all_tasks_do_not_stop_the_sweeps(
        self, changed: dict[str, Any], celery_settings: Any
    ) -> None:
        celery_settings(**changed)
        assert checked() == {}
        for name in SWEEPS:
            task: Any = current_app.tasks[name]
            for option, value in SWEEP.items():
                if option != "expires":
                    assert getattr(task, option) == value
            assert task.soft_time_limit <= task.time_limit
        for option, value in DELIVERY.items():
            assert getattr(cast("Any", tasks.handle_message), option) == value

    def test_fault_e2_a_time_limit_that_celery_refuses_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tasks.relay_outbox, "time_limit", 60)
        message = checked()["es_django.E055"]
        assert "es_django.relay_outbox: its soft time limit of 300 s is above its hard" in message.msg

    def test_fault_e2_a_route_to_a_missing_queue_is_named(self, celery_settings: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(current_app.amqp.queues, "create_missing", False)
        monkeypatch.setattr(current_app.amqp.router, "routes", [lambda *args, **kwargs: {"queue": "nowhere"}])
        assert "nowhere" in checked()["es_django.E056"].msg

    def test_fault_e2_a_destination_with_a_missing_queue_is_named(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.ES_DJANGO = {"DESTINATIONS": {"ledger": {"PUBLISHER": CELERY, "OPTIONS": {"queue": "nowhere"}}}}
        monkeypatch.setattr(current_app.amqp.queues, "create_missing", False)
        assert "nowhere" in checked()["es_django.E058"].msg

    def test_fault_e2_workers_that_refuse_json_are_named(self, celery_settings: Any) -> None:
        celery_settings(accept_content=["pickle"])
        assert "drop each of them" in checked()["es_django.E054"].msg

    def test_fault_e1_annotations_that_acknowledge_early_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tasks.handle_message, "acks_late", False)
        assert "changes acks_late of es_django.handle_message" in checked()["es_django.E057"].msg

    def test_fault_a14_an_app_without_a_broker_is_named(
        self, celery_settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("CELERY_BROKER_URL")
        celery_settings(broker_url=None)
        assert "amqp://guest@localhost//" in checked()["es_django.W053"].msg

    @pytest.mark.parametrize("path", ["nowhere.Error", "tests.domain", "builtins.int", "ValueError"])
    def test_fault_b4_a_wrong_entry_of_retry_on_is_named(self, path: str, settings: Settings) -> None:
        settings.ES_DJANGO = {"INBOX": {"RETRY_ON": [path]}}
        assert "RETRY_ON" in checked()["es_django.E050"].msg
