"""Events: the log, newest first, and one event with all that is stored of it."""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.safestring import SafeString

from es_django import conf
from es_django.admin.elements import code, moment
from es_django.admin.readonly import Fact, ReadOnlyAdmin, parsed_uuid
from es_django.admin.timeline import place_in_timeline
from es_django.models import StoredEvent, Stream

HIGHEST_POSITION = 2**63 - 1


@admin.register(StoredEvent)
class StoredEventAdmin(ReadOnlyAdmin[StoredEvent]):
    list_display = ["position", "type", "stream", "version", "recorded"]
    list_select_related = ["stream"]
    ordering = ["-position"]
    search_help_text = "A position or an event id."
    documents = {"data": "Payload", "metadata": "Metadata"}
    page_template = "es_django/admin/event.html"

    @admin.display(description="recorded")
    def recorded(self, event: StoredEvent) -> SafeString:
        return moment(event.recorded_at)

    def readings(self, term: str) -> Iterator[Q]:
        text = term.strip()
        if text.isdecimal() and len(text) <= len(str(HIGHEST_POSITION)) and int(text) <= HIGHEST_POSITION:
            yield Q(position=int(text))
        yield Q(event_id=parsed_uuid(text))

    def facts(self, request: HttpRequest, event: StoredEvent) -> list[Fact]:
        place = place_in_timeline(event.version)
        return [
            ("Type", event.type),
            ("Schema version", event.schema_version),
            ("Stream", self.link(request, Stream, event.stream_id, event.stream, query=place)),
            ("Version", event.version),
            ("Position", event.position),
            ("Recorded", moment(event.recorded_at, precise=True)),
            ("Event id", code(event.event_id)),
            ("Correlation id", event.correlation_id and code(event.correlation_id)),
            ("Causation id", event.causation_id and code(event.causation_id)),
        ]

    def page_context(self, request: HttpRequest, event: StoredEvent) -> dict[str, Any]:
        beside = StoredEvent.objects.using(conf.settings().database).filter(
            stream_id=event.stream_id, version__in=(event.version - 1, event.version + 1)
        )
        positions = dict(beside.values_list("version", "position"))
        return {
            **super().page_context(request, event),
            "previous": positions.get(event.version - 1),
            "next": positions.get(event.version + 1),
        }
