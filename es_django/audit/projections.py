"""Find checkpoints that belong to no projection, or that are ahead of the log and would leave out new events."""

from collections.abc import Iterator

from django.db import connections
from django.db.models import Max

from es_django.audit.findings import AuditContext, Finding
from es_django.models import ProjectionCheckpoint, StoredEvent
from es_django.projections.base import registered_projections
from es_django.projections.side_effects import done_until
from es_django.store.postgresql.sequences import facts


def findings(context: AuditContext) -> Iterator[Finding]:
    # Read the checkpoints before the end of the log. Both advance, so the other order could show a false finding.
    checkpoints = list(ProjectionCheckpoint.objects.using(context.using).order_by("name", "partition"))
    end, known = _end(context.using), registered_projections()
    for each in checkpoints:
        context.counts["checkpoints"] += 1
        if each.name not in known:
            remedy = "register it, or delete its row in es_django_projectioncheckpoint"
            yield Finding("checkpoint", f"projection {each} is not registered: {remedy}")
        places = [
            ("is at", each.position, "new events"),
            ("did its side effects up to", done_until(each.side_effects or []), "side effects of new events"),
        ]
        for place, position, lost in places:
            if position > end:
                fact = f"projection {each} {place} position {position}, but the log ends at {end}"
                yield Finding("checkpoint", f"{fact}: {lost} up to there would be left out")


def _end(using: str) -> int:
    newest = StoredEvent.objects.using(using).aggregate(newest=Max("position"))["newest"] or 0
    if connections[using].vendor == "sqlite":
        return int(newest)
    # An append that was rolled back has used up a position without an event, and a checkpoint may be there.
    with connections[using].cursor() as cursor:
        cursor.execute(facts("es_django_event", "position"))
        last_drawn, *_ = cursor.fetchone()
        return max(int(newest), int(last_drawn or 0))
