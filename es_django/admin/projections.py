"""Projections: how far each one has come, and what keeps it."""

from typing import Any

from django.contrib import admin
from django.db.models import BigIntegerField, F, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from es_django import conf
from es_django.admin.elements import error_text, moment, status_badge
from es_django.admin.readonly import Fact, ReadOnlyAdmin
from es_django.models import ProjectionCheckpoint, StoredEvent


@admin.register(ProjectionCheckpoint)
class ProjectionCheckpointAdmin(ReadOnlyAdmin[ProjectionCheckpoint]):
    list_display = ["status_and_shape", "name", "position", "behind", "attempts", "updated", "error"]
    list_display_links = ["name"]
    ordering = ["name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProjectionCheckpoint]:
        log = StoredEvent.objects.using(conf.settings().database).order_by("-position")
        end = Coalesce(Subquery(log.values("position")[:1]), 0, output_field=BigIntegerField())
        return super().get_queryset(request).annotate(lag=end - F("position"))

    @admin.display(description="status")
    def status_and_shape(self, checkpoint: ProjectionCheckpoint) -> SafeString:
        return status_badge(checkpoint.status)

    @admin.display(description="behind the log by")
    def behind(self, checkpoint: Any) -> str:
        return f"{checkpoint.lag:,} positions" if checkpoint.lag > 0 else "nothing"

    @admin.display(description="updated")
    def updated(self, checkpoint: ProjectionCheckpoint) -> SafeString:
        return moment(checkpoint.updated_at)

    @admin.display(description="last error")
    def error(self, checkpoint: ProjectionCheckpoint) -> str:
        return Truncator(checkpoint.last_error).chars(100)

    def facts(self, request: HttpRequest, checkpoint: ProjectionCheckpoint) -> list[Fact]:
        failed = checkpoint.failed_position
        return [
            ("Status", status_badge(checkpoint.status)),
            ("Position", checkpoint.position),
            ("Behind the log by", self.behind(checkpoint)),
            ("Attempts", checkpoint.attempts),
            ("Next attempt", moment(checkpoint.retry_at) if checkpoint.retry_at else None),
            ("Failed at", failed and self.link(request, StoredEvent, failed, f"position {failed}")),
            ("Last error", error_text(checkpoint.last_error)),
            ("Updated", moment(checkpoint.updated_at)),
        ]
