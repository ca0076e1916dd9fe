import os
import subprocess
import sys
from types import ModuleType

import pytest

import es_django
from es_django import outbox, projections


@pytest.mark.parametrize("package", [es_django, outbox, projections])
def test_every_public_name_can_be_imported(package: ModuleType) -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None


@pytest.mark.parametrize("package", ["es_django", "es_django.outbox", "es_django.projections"])
def test_all_public_names_are_listed_and_come_with_a_star(package: str) -> None:
    code = f"""
import django; django.setup()
import {package} as package
print(set(package.__all__) - set(dir(package)))
from {package} import *
print(set(package.__all__) - set(globals()))
"""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "testproject.settings"}
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30, env=environment
    )
    assert told.stdout.split() == ["set()", "set()"]


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    assert not hasattr(es_django, "Nothing")


def test_importing_the_package_imports_neither_django_nor_celery() -> None:
    code = "import sys, es_django; es_django.beat_schedule(); print(sorted({'django', 'celery'} & sys.modules.keys()))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert told.stdout.strip() == "[]"


def test_every_beat_entry_expires_before_the_next_one() -> None:
    for entry in es_django.beat_schedule().values():
        assert entry["options"]["expires"] <= entry["schedule"]


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


def test_what_only_runs_later_is_not_imported_at_start() -> None:
    told = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True, timeout=30)
    assert told.stdout.strip() == "[]"
