"""Every process finds the Celery app of the project, and nothing is published without one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = """
import threading
import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["es_django"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3", "OPTIONS": {
        "transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL"}}},
    USE_TZ=True,
    ES_DJANGO={"DESTINATIONS": {"ledger": {"PUBLISHER": "es_django.outbox.publishers.celery.CeleryPublisher"}}},
)
"""
SEND_AND_RELAY = """
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection
call_command("migrate", verbosity=0)
from es_django import outbox
from es_django.models import OutboxMessage
from es_django.outbox.relay import relay
outbox.send("ledger", type="noted", data=1)
call_command("es_relay", "--destination", "ledger", interval=0.1, once=True) if COMMAND else relay()
print(sorted(each.id for each in run_checks()), *OutboxMessage.objects.values_list("status", "attempts", "last_error"))
"""
IN_A_THREAD = """
from es_django.celery_app import project_app
def name():
    print(project_app().main)
thread = threading.Thread(target=name)
thread.start()
thread.join()
"""
APP = 'from celery import Celery\napp = Celery("shop", broker="memory://")\n'


def run(script: str, folder: Path, *, fails: bool = False) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY", "DJANGO"))}
    path = os.pathsep.join([str(Path(__file__).parent.parent), str(folder)])
    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (finished.returncode != 0) is fails, finished.stderr
    return finished.stdout + finished.stderr


@pytest.mark.slow
class TestWithoutApp:
    @pytest.mark.parametrize(
        "prelude",
        ["", "from celery import shared_task, current_app; current_app.conf\n"],
        ids=["no app", "the app that Celery makes"],
    )
    def test_fault_a14_nothing_is_published_and_a_check_says_so(self, prelude: str, tmp_path: Path) -> None:
        printed = run(f"COMMAND = False\n{SETUP}{prelude}django.setup(){SEND_AND_RELAY}", tmp_path)
        assert "['es_django.E051'] ('pending', 0, " in printed
        assert "the project has no Celery app" in printed

    def test_fault_a14_es_relay_says_that_the_app_is_missing(self, tmp_path: Path) -> None:
        printed = run(f"COMMAND = True\n{SETUP}django.setup(){SEND_AND_RELAY}", tmp_path, fails=True)
        assert "the project has no Celery app" in printed

    def test_fault_a14_an_app_that_is_not_imported_is_no_app(self, tmp_path: Path) -> None:
        (tmp_path / "shop.py").write_text(APP)
        printed = run(f"COMMAND = False\n{SETUP}django.setup(){SEND_AND_RELAY}", tmp_path)
        assert "['es_django.E051'] ('pending', 0, " in printed

    def test_fault_a14_without_celery_tasks_a_warning_names_the_commands(self, tmp_path: Path) -> None:
        webhook = SETUP.replace("celery.CeleryPublisher", "memory.MemoryPublisher")
        checks = "\nfrom django.core.checks import run_checks\nprint([each.id for each in run_checks()])"
        assert "['es_django.W052']" in run(f"{webhook}django.setup(){checks}", tmp_path)


@pytest.mark.slow
class TestApp:
    @pytest.mark.parametrize("order", ["import shop\ndjango.setup()", "django.setup()\nimport shop"])
    def test_fault_a14_every_thread_finds_the_app_whenever_it_is_imported(self, order: str, tmp_path: Path) -> None:
        (tmp_path / "shop.py").write_text(APP)
        assert run(f"{SETUP}{order}{IN_A_THREAD}", tmp_path) == "shop\n"

    def test_fault_a14_an_app_that_celerys_own_app_preceded_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "shop.py").write_text(APP)
        before = "from celery import current_app; current_app.conf\ndjango.setup()\nimport shop"
        assert run(f"{SETUP}{before}{IN_A_THREAD}", tmp_path) == "shop\n"

    def test_fault_a14_of_several_apps_the_default_is_used_or_none(self, tmp_path: Path) -> None:
        two = 'from celery import Celery\na, b = Celery("a"), Celery("b")\n'
        assert run(f"{SETUP}django.setup()\n{two}b.set_default(){IN_A_THREAD}", tmp_path) == "b\n"
        printed = run(f"{SETUP}django.setup()\n{two}{IN_A_THREAD}", tmp_path)
        assert "the project has several Celery apps ('a', 'b'): call set_default() of one of them" in printed
