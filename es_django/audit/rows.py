"""Find rows that violate a CHECK constraint of their model. The constraint is missing, or did not check the rows."""

from collections.abc import Iterator
from typing import Any

from django.db.models import CheckConstraint, QuerySet

from es_django.audit.findings import AuditContext, Finding, in_pages
from es_django.audit.schema import models

ROWS = 50_000
"""Number of rows that one statement checks."""


def findings(context: AuditContext) -> Iterator[Finding]:
    for model in models():
        constraints = [each for each in model._meta.constraints if isinstance(each, CheckConstraint)]
        if not constraints:
            continue
        for rows in _blocks(model._base_manager.using(context.using).all()):
            for constraint in constraints:
                for page in in_pages(rows.exclude(constraint.condition)):
                    for (key,) in page:
                        row = f"{model._meta.db_table}, {model._meta.pk.name} {key}"
                        yield Finding("check", f"{row} violates {constraint.name}")


def _blocks(rows: QuerySet[Any]) -> Iterator[QuerySet[Any]]:
    """Yield the rows in blocks of `ROWS`, however far apart their keys are."""
    keys = rows.order_by("pk").values_list("pk", flat=True)
    block, last = rows, None
    while True:
        ends = list((keys if last is None else keys.filter(pk__gt=last))[ROWS - 1 : ROWS])
        if not ends:
            yield block
            return
        yield block.filter(pk__lte=ends[0])
        last = ends[0]
        block = rows.filter(pk__gt=last)
