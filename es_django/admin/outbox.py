"""The outbox: what is to be told to the outside, and what became of it."""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from es_django import conf
from es_django.admin.elements import code, error_text, moment, status_badge
from es_django.admin.filters import ColumnFilter, StatusFilter
from es_django.admin.readonly import Fact, ReadOnlyAdmin, parsed_uuid
from es_django.admin.timeline import place_in_timeline
from es_django.models import OutboxMessage, Stream


class DestinationFilter(ColumnFilter):
    """Offers the destinations of the settings, since those of the table would have to be read from all of it."""

    title = "destination"
    parameter_name = "destination"

    def offered(self) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted(conf.settings().destinations)]


class OutboxStatusFilter(StatusFilter):
    """Finds what is open or given up by the indexes on that: SQLite uses a partial index for nothing but its very own
    condition."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = super().queryset(request, queryset)
        for indexed in (("pending", "claimed"), ("dead", "discarded")):
            if self.value() in indexed:
                return chosen.filter(status__in=indexed)
        return chosen


@admin.register(OutboxMessage)
class OutboxMessageAdmin(ReadOnlyAdmin[OutboxMessage]):
    list_display = ["status_and_shape", "type", "key", "destination", "attempts", "step", "error"]
    list_display_links = ["type"]
    list_filter = [OutboxStatusFilter, DestinationFilter]
    ordering = ["-id"]
    search_help_text = "A message id, or a whole key."
    documents = {"data": "Data", "headers": "Headers"}

    @admin.display(description="status")
    def status_and_shape(self, message: OutboxMessage) -> SafeString:
        return status_badge(message.status)

    @admin.display(description="when")
    def step(self, message: OutboxMessage) -> SafeString:
        return format_html('<span class="es-step">{}</span> {}', *_step(message))

    @admin.display(description="last error")
    def error(self, message: OutboxMessage) -> str:
        return Truncator(message.last_error).chars(100)

    def readings(self, term: str) -> Iterator[Q]:
        if (message_id := parsed_uuid(term.strip())) is not None:
            yield Q(message_id=message_id)
        yield Q(key=term)

    def facts(self, request: HttpRequest, message: OutboxMessage) -> list[Fact]:
        label, time = _step(message)
        return [
            ("Status", status_badge(message.status)),
            (label.capitalize(), time),
            ("Claimed by", message.claimed_by),
            ("Attempts", message.attempts),
            ("Last error", error_text(message.last_error)),
            ("Destination", message.destination),
            ("Type", message.type),
            ("Key", message.key),
            ("Source", self._source(request, message)),
            ("Message id", code(message.message_id)),
            ("Created", moment(message.created_at)),
        ]

    def _source(self, request: HttpRequest, message: OutboxMessage) -> object:
        if message.stream is None:
            return None
        version = message.stream_version
        text = f"{message.stream} at version {version}" if version else str(message.stream)
        place = place_in_timeline(version) if version else ""
        return self.link(request, Stream, message.stream.pk, text, query=place)


def _step(message: OutboxMessage) -> tuple[str, SafeString]:
    """The time that matters in a message's status, and what it is the time of."""
    if message.claimed_until is not None:
        return "claimed until", moment(message.claimed_until)
    if message.published_at is not None:
        return "published", moment(message.published_at)
    if message.failed_at is not None:
        return "failed", moment(message.failed_at)
    return "due", moment(message.available_at)
