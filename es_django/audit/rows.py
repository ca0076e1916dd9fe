"""Find rows that violate a CHECK constraint of their model. The constraint is missing, or did not check the rows."""

from collections.abc import Iterator

from django.db.models import CheckConstraint, Max, Min

from es_django.audit.findings import AuditContext, Finding, in_pages
from es_django.audit.schema import models

RANGE = 50_000
"""Number of primary keys that one statement checks."""


def findings(context: AuditContext) -> Iterator[Finding]:
    for model in models():
        rows = model._base_manager.using(context.using)
        for constraint in model._meta.constraints:
            if not isinstance(constraint, CheckConstraint):
                continue
            ends = rows.aggregate(first=Min("pk"), last=Max("pk"))
            for start in range(ends["first"] or 0, (ends["last"] or 0) + 1, RANGE):
                broken = rows.filter(pk__gte=start, pk__lt=start + RANGE).exclude(constraint.condition)
                for page in in_pages(broken):
                    for (key,) in page:
                        row = f"{model._meta.db_table}, {model._meta.pk.name} {key}"
                        yield Finding("check", f"{row} violates {constraint.name}")
