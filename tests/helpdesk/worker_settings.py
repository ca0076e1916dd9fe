"""The sample project's settings for the worker of a test: its own queue, and a short lease.

With the short lease, the claims of a killed relay expire soon.
"""

import os

from kombu import Queue

from testproject.settings import *  # noqa: F403

CELERY_TASK_DEFAULT_QUEUE = os.environ["TEST_QUEUE"]
CELERY_TASK_QUEUES = [Queue(CELERY_TASK_DEFAULT_QUEUE)]
PUBLISHER = {"PUBLISHER": "es_django.outbox.publishers.celery.CeleryPublisher"}
ES_DJANGO = {"DESTINATIONS": {"ledger": PUBLISHER, "customers": PUBLISHER}, "OUTBOX": {"LEASE": 5}}
