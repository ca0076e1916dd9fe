"""The entries of es_django in the schedule of Celery beat."""

from typing import Any


def beat_schedule() -> dict[str, dict[str, Any]]:
    """Return the entries to merge into CELERY_BEAT_SCHEDULE.

    The entries relay the outbox, advance the projections, and prune old rows. Each task expires, so that tasks do not
    pile up while no worker runs.
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
