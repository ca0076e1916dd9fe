import subprocess
import sys

import es_django


def test_every_public_name_can_be_imported() -> None:
    for name in es_django.__all__:
        assert getattr(es_django, name) is not None


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    assert not hasattr(es_django, "Nothing")


def test_importing_the_package_imports_neither_django_nor_celery() -> None:
    code = "import sys, es_django; es_django.beat_schedule(); print(sorted({'django', 'celery'} & sys.modules.keys()))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert told.stdout.strip() == "[]"


def test_every_beat_entry_expires_before_the_next_one() -> None:
    for entry in es_django.beat_schedule().values():
        assert entry["options"]["expires"] <= entry["schedule"]
