import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from celery import current_app
from django.conf import settings

import es_django
from es_django import outbox, projections

STAR_IMPORT = """
import django; django.setup()
import {package} as package
print(set(package.__all__) - set(dir(package)))
from {package} import *
print(set(package.__all__) - set(globals()))
"""

START = """
import sys
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "es_django",
    ],
)
import django

django.setup()
later = "monitoring.health projections.runner repository store.base store.database admin.causation".split()
later += ["admin.decoded_event"]
print(sorted({"standardwebhooks", *(f"es_django.{each}" for each in later)} & sys.modules.keys()))
"""


class TestNames:
    @pytest.mark.parametrize("package", [es_django, outbox, projections])
    def test_every_public_name_can_be_imported(self, package: ModuleType) -> None:
        for name in package.__all__:
            assert getattr(package, name) is not None

    @pytest.mark.parametrize("package", ["es_django", "es_django.outbox", "es_django.projections"])
    def test_dir_and_star_import_contain_all_public_names(self, package: str) -> None:
        code = STAR_IMPORT.format(package=package)
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "testproject.settings"}
        finished = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30, env=environment
        )
        assert finished.stdout.split() == ["set()", "set()"]

    def test_an_unknown_name_is_an_attribute_error(self) -> None:
        assert not hasattr(es_django, "Nothing")

    def test_public_names_can_be_imported_from_a_zip_file(self, tmp_path: Path) -> None:
        archive = shutil.make_archive(str(tmp_path / "library"), "zip", settings.BASE_DIR, "es_django")
        code = "import es_django; es_django.beat_schedule(); print(es_django.__file__)"
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": archive},
        )
        assert result.stdout.startswith(archive)


class TestImportTime:
    def test_importing_the_package_imports_neither_django_nor_celery(self) -> None:
        code = (
            "import sys, es_django; es_django.beat_schedule(); print(sorted({'django', 'celery'} & sys.modules.keys()))"
        )
        finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
        assert finished.stdout.strip() == "[]"

    def test_importing_the_errors_imports_neither_django_nor_celery(self) -> None:
        code = "import sys, es_django.errors; print(sorted({'django', 'celery'} & sys.modules.keys()))"
        finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
        assert finished.stdout.strip() == "[]"

    def test_starting_django_imports_only_what_it_needs(self) -> None:
        finished = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True, timeout=30)
        assert finished.stdout.strip() == "[]"


class TestBeatSchedule:
    def test_fault_f6_every_task_expires_by_itself_whatever_scheduler_sends_it(self) -> None:
        current_app.loader.import_default_modules()
        for entry in es_django.beat_schedule().values():
            task = current_app.tasks[entry["task"]]
            assert task.expires is not None
            assert "expires" not in entry.get("options", {})

    def test_fault_f7_pace_and_queue_are_parameters(self) -> None:
        schedule = es_django.beat_schedule(relay=30, projections=20, retries=10, prune=3600, queue="sweeps")
        assert {task: entry["schedule"] for task, entry in schedule.items()} == {
            "es_django.relay_outbox": 30,
            "es_django.run_projections": 20,
            "es_django.retry_handlers": 10,
            "es_django.prune": 3600,
        }
        assert {entry["options"]["queue"] for entry in schedule.values()} == {"sweeps"}

    @pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
    def test_fault_f7_an_invalid_pace_is_rejected(self, seconds: float) -> None:
        with pytest.raises(ValueError, match=r"es_django\.relay_outbox must be above 0"):
            es_django.beat_schedule(relay=seconds)
