"""The entries of Celery beat."""

from typing import Any


def beat_schedule() -> dict[str, dict[str, Any]]:
    """The entries to merge into CELERY_BEAT_SCHEDULE: sweeps of the outbox and the projections, and the
    pruning of what has ended.

    Each entry expires, so that a night without workers leaves no queue of them behind.
    """
    return {
        "es_django.relay_outbox": {
            "task": "es_django.relay_outbox",
            "schedule": 5.0,
            "options": {"expires": 5.0},
        },
        "es_django.prune": {
            "task": "es_django.prune",
            "schedule": 600.0,
            "options": {"expires": 600.0},
        },
        "es_django.run_projections": {
            "task": "es_django.run_projections",
            "schedule": 2.0,
            "options": {"expires": 2.0},
        },
    }
