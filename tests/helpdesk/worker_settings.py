"""The sample project's settings for the worker of a test: it has a queue of its own, does not wait long for what a
killed relay had claimed, and keeps its database connection from one task to the next."""

import os

from testproject import settings
from testproject.settings import *  # noqa: F403

CELERY_TASK_DEFAULT_QUEUE = os.environ["TEST_QUEUE"]
ES_DJANGO = settings.ES_DJANGO | {"OUTBOX": {"LEASE": 5}}  # type: ignore[assignment]  # wider than what it replaces
DATABASES = {alias: database | {"CONN_MAX_AGE": 60} for alias, database in settings.DATABASES.items()}
