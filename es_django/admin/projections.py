"""Admin pages of projections: lag, failures, and the actions of an operator."""

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import BigIntegerField, F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce, Now
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from es_django import conf, projections
from es_django.admin.base import Fact
from es_django.admin.confirmation import ConfirmingAdmin, SelectedRow, username
from es_django.admin.html import error_text, status_badge, time_element
from es_django.admin.masking import error_column, error_shown
from es_django.core.errors import EsDjangoError
from es_django.models import CheckpointStatus, ProjectionCheckpoint, SkippedEvent, StoredEvent

OPERATE = ["operate"]
MAX_SKIPPED_EVENTS = 10


@admin.register(ProjectionCheckpoint)
class ProjectionCheckpointAdmin(ConfirmingAdmin[ProjectionCheckpoint]):
    list_display: tuple[str, ...] = ("status_and_shape", "name", "share", "place", "behind", "attempts", "updated")
    list_display_links: tuple[str, ...] = ("name",)
    ordering: ClassVar[tuple[str, ...]] = ("name", "partition")
    actions: tuple[str, ...] = ("pause", "resume", "skip", "rebuild")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("es_django.operate_projectioncheckpoint")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProjectionCheckpoint]:
        log = StoredEvent.objects.using(conf.settings().database)
        end = Coalesce(Subquery(log.order_by("-position").values("position")[:1]), 0, output_field=BigIntegerField())
        later = log.filter(position__gt=OuterRef("position")).order_by("position")
        waiting = later.annotate(age=Now() - F("recorded_at")).values("age")[:1]
        return super().get_queryset(request).annotate(lag=end - F("position"), waiting=Subquery(waiting))

    @admin.display(description="status")
    def status_and_shape(self, checkpoint: ProjectionCheckpoint) -> SafeString:
        badge = status_badge(checkpoint.status)
        return format_html("{} (needs newer code)", badge) if checkpoint.needs_newer_code else badge

    @admin.display(description="partition")
    def share(self, checkpoint: ProjectionCheckpoint) -> str:
        return f"{checkpoint.partition + 1} of {checkpoint.partitions}" if checkpoint.partitions > 1 else ""

    @admin.display(description="position", ordering="position")
    def place(self, checkpoint: ProjectionCheckpoint) -> int | None:
        return None if checkpoint.status == CheckpointStatus.INLINE else checkpoint.position

    @admin.display(description="lag")
    def behind(self, checkpoint: Any) -> str:
        if checkpoint.status == CheckpointStatus.INLINE:
            return "none: runs inline"
        if checkpoint.waiting is None:
            return "none"
        seconds = checkpoint.waiting.total_seconds()
        return f"{checkpoint.lag:,} positions, {max(0, seconds):,.0f} s"

    @admin.display(description="updated")
    def updated(self, checkpoint: ProjectionCheckpoint) -> SafeString:
        return time_element(checkpoint.updated_at)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [*self.list_display, error_column(request)]

    def facts(self, request: HttpRequest, checkpoint: ProjectionCheckpoint) -> list[Fact]:
        from es_django.projections.side_effects import done_until

        failed = checkpoint.failed_position
        done = done_until(checkpoint.side_effects or [])
        return [
            ("Status", self.status_and_shape(checkpoint)),
            ("Partition", self.share(checkpoint)),
            ("Position", self.place(checkpoint)),
            ("Lag", self.behind(checkpoint)),
            (
                "Side effects already done up to",
                f"position {done}" if checkpoint.position < done else None,
            ),
            ("Attempts", checkpoint.attempts),
            ("Next attempt", time_element(checkpoint.retry_at) if checkpoint.retry_at else None),
            (
                "Needs newer code at" if checkpoint.needs_newer_code else "Failed at",
                failed and self._event(request, failed),
            ),
            ("Last error", error_text(error_shown(request, checkpoint.last_error))),
            ("Skipped", self._skipped(request, checkpoint)),
            ("Updated", time_element(checkpoint.updated_at)),
        ]

    def _event(self, request: HttpRequest, position: int) -> object:
        return self.link(request, StoredEvent, position, f"position {position}")

    def _skipped(self, request: HttpRequest, checkpoint: ProjectionCheckpoint) -> SafeString:
        skipped = SkippedEvent.objects.using(conf.settings().database).filter(projection=checkpoint.name)
        return format_html_join(
            "",
            "<p>{} by {}, {}</p>",
            (
                (self._event(request, each.position), each.skipped_by, time_element(each.skipped_at))
                for each in skipped.order_by("-position")[:MAX_SKIPPED_EVENTS]
            ),
        )

    # Actions, each with a confirmation

    @admin.action(description="Pause", permissions=OPERATE)
    def pause(self, request: HttpRequest, chosen: QuerySet[ProjectionCheckpoint]) -> HttpResponse | None:
        return self._operate(request, "Pause", lambda each, by: projections.pause(each.name, by=by))

    @admin.action(description="Resume", permissions=OPERATE)
    def resume(self, request: HttpRequest, chosen: QuerySet[ProjectionCheckpoint]) -> HttpResponse | None:
        return self._operate(request, "Resume", lambda each, by: projections.resume(each.name, by=by))

    @admin.action(description="Skip the failed event", permissions=OPERATE)
    def skip(self, request: HttpRequest, chosen: QuerySet[ProjectionCheckpoint]) -> HttpResponse | None:
        # Skip only the event on the confirmation page. The projection may fail at another event by now.
        shown = {value for value in request.POST.getlist("failed") if value.isdecimal()}

        def skip_shown(checkpoint: ProjectionCheckpoint, by: str) -> None:
            position = checkpoint.failed_position or 0
            projections.skip(checkpoint.name, position if str(position) in shown else 0, by=by)

        return self._operate(request, "Skip the failed event of", skip_shown, once=False)

    @admin.action(description="Rebuild from the beginning of the log", permissions=OPERATE)
    def rebuild(self, request: HttpRequest, chosen: QuerySet[ProjectionCheckpoint]) -> HttpResponse | None:
        return self._operate(
            request,
            "Empty the read model and replay the log of",
            lambda each, by: projections.start_rebuild(each.name, by=by),
            done="started, workers replay the log",
        )

    def _operate(
        self,
        request: HttpRequest,
        what: str,
        operate: Callable[[ProjectionCheckpoint, str], object],
        *,
        once: bool = True,
        done: str = "done",
    ) -> HttpResponse | None:
        """Ask for confirmation. Once confirmed, call `operate` for each selected partition.

        With `once`, call it only once for each selected projection. `operate` returns False if it had nothing to do.
        """
        checkpoints = self.selected_rows(request)
        if once:
            checkpoints = list({each.name: each for each in checkpoints}.values())
        if not self.is_confirmed(request):
            rows = [SelectedRow(each, _as_shown(each), {"failed": each.failed_position or 0}) for each in checkpoints]
            return self.confirmation(request, title=f"{what} these projections?", rows=rows, answer="Yes, do it")
        for checkpoint in checkpoints:
            shown = str(checkpoint) if not once else checkpoint.name
            try:
                is_done = operate(checkpoint, username(request)) is not False
            except EsDjangoError as error:
                self.message_user(request, str(error), messages.ERROR)
                continue
            if is_done:
                self.log_change(request, checkpoint, f"{what} {shown}")
            result = done if is_done else "already under way"
            self.message_user(request, f"{what} {shown}: {result}.", messages.SUCCESS if is_done else messages.INFO)
        return None


def _as_shown(checkpoint: ProjectionCheckpoint) -> str:
    failed = f", failed event at position {checkpoint.failed_position}" if checkpoint.failed_position else ""
    return f"{checkpoint}: status {checkpoint.status}, applied up to position {checkpoint.position}{failed}"
