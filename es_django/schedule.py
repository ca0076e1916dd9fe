"""The entries of es_django in the schedule of Celery beat."""

from typing import Any


def beat_schedule(
    *,
    relay: float = 5.0,
    projections: float = 2.0,
    retries: float = 5.0,
    prune: float = 600.0,
    queue: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the entries to merge into CELERY_BEAT_SCHEDULE.

    `relay`, `projections`, `retries` and `prune` are the seconds between two runs of each task: the relay of the
    outbox, asynchronous projections, handlers that are due again, and the deletion of old rows. A run that finds
    nothing to do costs one query. `queue` is the queue of the tasks; by default, the queue that Celery's routes choose.

    The tasks expire by themselves, so that they do not pile up while no worker runs.

    Raise ValueError unless the seconds are numbers above 0.
    """
    paces = {
        "es_django.relay_outbox": relay,
        "es_django.run_projections": projections,
        "es_django.retry_handlers": retries,
        "es_django.prune": prune,
    }
    for task, seconds in paces.items():
        if not 0 < seconds < float("inf"):
            raise ValueError(f"beat_schedule: the seconds between two runs of {task} must be above 0, got {seconds!r}")
    options = {} if queue is None else {"options": {"queue": queue}}
    return {task: {"task": task, "schedule": float(seconds), **options} for task, seconds in paces.items()}
