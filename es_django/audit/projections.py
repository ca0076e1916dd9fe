"""Checkpoints that are ahead of the log, so that what is appended up to there would be passed by, or nobody's."""

from collections.abc import Iterator

from django.db import connections
from django.db.models import Max

from es_django.audit.findings import Finding, Watch
from es_django.models import ProjectionCheckpoint, StoredEvent
from es_django.projections.base import registered_projections
from es_django.projections.side_effects import done_until
from es_django.store.postgresql.sql import LAST_DRAWN


def findings(watch: Watch) -> Iterator[Finding]:
    # Before the end is looked up, since both move on.
    checkpoints = list(ProjectionCheckpoint.objects.using(watch.using).order_by("name", "partition"))
    end, known = _end(watch.using), registered_projections()
    for each in checkpoints:
        watch.counts["checkpoints"] += 1
        if each.name not in known:
            text = f"projection {each} does not exist (any more): delete its row of es_django_projectioncheckpoint"
            yield Finding("checkpoint", text)
        places = {"is at": each.position, "has told the outside up to": done_until(each.side_effects or [])}
        for place, position in places.items():
            if position > end:
                yield Finding("checkpoint", f"projection {each} {place} {position}, the log ends at {end}")


def _end(using: str) -> int:
    newest = StoredEvent.objects.using(using).aggregate(newest=Max("position"))["newest"] or 0
    if connections[using].vendor == "sqlite":
        return int(newest)
    # A position that an append drew and did not keep is an end of the log too.
    with connections[using].cursor() as cursor:
        cursor.execute(f"SELECT {LAST_DRAWN}")
        return max(int(newest), int(cursor.fetchone()[0]))
