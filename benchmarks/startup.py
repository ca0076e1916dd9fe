"""`import es_django` and `django.setup()`, beside the same project with Celery but without es_django."""

import os
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.measure import Effort, Figure, Maker, Title, alone, compare

PROJECT = """
from celery import Celery
from django.conf import settings

Celery("project").set_default()
settings.configure(
    DATABASES={{"default": {{"ENGINE": "django.db.backends.postgresql", "NAME": "project"}}}},
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "django.contrib.staticfiles",
        {app}
    ],
)
import django

django.setup()
"""

# Let the warm-up write compiled modules, as installing a package does.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def start(project: str) -> Maker:
    return lambda: lambda: subprocess.run([sys.executable, "-c", project], check=True, env=ENVIRONMENT)


def measure(effort: Effort) -> Iterator[Figure]:
    times = effort.of(5)
    yield compare(
        Title("start", "import es_django and django.setup()", "starts", beside="without it"),
        alone(start("import es_django" + PROJECT.format(app='"es_django"')), times, warm_up=1),
        alone(start(PROJECT.format(app="")), times, warm_up=1),
        1 / 1.3,
        effort,
    )
