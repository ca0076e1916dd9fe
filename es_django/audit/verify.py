"""The steps of an audit, in order."""

from collections import Counter
from collections.abc import Callable, Iterator

from django.db import connections
from django.db.models import Max, Model

from es_django import conf
from es_django.audit import log, messages, projections, rows, schema, snapshots, streams
from es_django.audit.findings import AuditContext, Finding
from es_django.models import OutboxMessage, Snapshot, StoredEvent, Stream
from es_django.store.error_translation import storage_errors

Step = Callable[[AuditContext], Iterator[Finding]]

STEPS: dict[str, tuple[Step, type[Model] | None]] = {
    "schema": (schema.findings, None),
    "rows": (rows.findings, None),
    "streams": (streams.findings, Stream),
    "events": (log.findings, StoredEvent),
    "snapshots": (snapshots.findings, Snapshot),
    "messages": (messages.findings, OutboxMessage),
    "projections": (projections.findings, None),
}
"""The function of each step, by name, and the model whose primary keys measure progress."""


class Audit:
    """An audit of ES_DJANGO["DATABASE"]. `counts` holds the number of rows checked, by kind.

    The audit only reads, in short statements. It may run while events are appended: a commit during the audit does not
    cause a finding. An expired lease is not a finding, because the next owner takes over the lease.
    """

    def __init__(self, on_progress: Callable[[str, int, int], None] = lambda step, done, total: None) -> None:
        self.counts: Counter[str] = Counter()
        self._on_progress = on_progress
        self._using = conf.settings().database

    def findings(self) -> Iterator[Finding]:
        """Yield each finding as it is found. Raise `StorageError` if the database fails."""
        for name, (step, model) in STEPS.items():
            with storage_errors(f"audit {name}", connections[self._using]):
                total = 1 if model is None else self._last(model)

                def report(done: int, name: str = name, total: int = total) -> None:
                    self._on_progress(name, min(done, total), total)

                report(0)
                yield from step(AuditContext(self._using, report, self.counts))
                report(total)

    def _last(self, model: type[Model]) -> int:
        last = model._base_manager.using(self._using).aggregate(last=Max("pk"))["last"]
        return int(last or 0)
