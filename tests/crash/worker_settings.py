"""The settings of a worker that a test starts: its own queue, and handlers that end the worker in many ways."""

import json
import os

from kombu import Queue

from testproject.settings import *  # noqa: F403
from testproject.settings import INSTALLED_APPS as SAMPLE

INSTALLED_APPS = [*SAMPLE, "tests.crash.deadly"]
CELERY_TASK_DEFAULT_QUEUE = os.environ["TEST_QUEUE"]
CELERY_TASK_QUEUES = [Queue(CELERY_TASK_DEFAULT_QUEUE)]
ES_DJANGO = {
    "DESTINATIONS": ES_DJANGO["DESTINATIONS"],  # noqa: F405
    "INBOX": {"MAX_ATTEMPTS": 3, "BACKOFF": {"base": 0.1, "max": 0.2}},
}
globals().update(json.loads(os.environ.get("TEST_SETTINGS", "{}")))
