"""Admin pages of events: the log, newest first, and each event with its payload, causes and effects."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode

import msgspec
from django.contrib import admin
from django.db.models import Q
from django.db.models.fields.json import KT
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from es_django import conf
from es_django.admin.base import MAX_DOCUMENT_CHARACTERS, Fact, ReadOnlyAdmin, parsed_uuid
from es_django.admin.html import code, status_badge, time_element
from es_django.admin.json_text import MASK
from es_django.admin.masking import error_shown, hidden_keys
from es_django.admin.outbox import step_of
from es_django.admin.timeline import timeline_query
from es_django.admin.users import names_of, shown_user
from es_django.models import OutboxMessage, StoredEvent, Stream

if TYPE_CHECKING:
    from es_django.admin.causation import Node

MAX_POSITION = 2**63 - 1


class ShownNode(msgspec.Struct, frozen=True):
    """An event or a message in the tree of causes and effects, ready for the template."""

    kind: str
    link: object
    details: Sequence[object]
    error: str
    is_current: bool
    effects: "list[ShownNode]"


@admin.register(StoredEvent)
class StoredEventAdmin(ReadOnlyAdmin[StoredEvent]):
    list_display: tuple[str, ...] = ("position", "type", "stream", "version", "recorded")
    list_select_related: ClassVar[tuple[str, ...]] = ("stream",)
    ordering: ClassVar[tuple[str, ...]] = ("-position",)
    search_help_text: ClassVar[str] = "Search by position, event id or correlation id."
    documents: ClassVar[Mapping[str, str]] = {"data": "Payload", "metadata": "Metadata"}
    page_template = "es_django/admin/event.html"

    @admin.display(description="recorded")
    def recorded(self, event: StoredEvent) -> SafeString:
        return time_element(event.recorded_at)

    def search_lookups(self, term: str) -> Iterator[Q]:
        text = term.strip()
        if text.isdecimal() and len(text) <= len(str(MAX_POSITION)) and int(text) <= MAX_POSITION:
            yield Q(position=int(text))
        if (event_id := parsed_uuid(text)) is not None:
            yield Q(event_id=event_id)
        yield Q(correlation_id=text)

    def facts(self, request: HttpRequest, event: StoredEvent) -> list[Fact]:
        place = timeline_query(event.version)
        return [
            ("Type", event.type),
            ("Schema version", event.schema_version),
            ("Stream", self.link(request, Stream, event.stream_id, event.stream, query=place)),
            ("Version", event.version),
            ("Position", event.position),
            ("Recorded", time_element(event.recorded_at, precise=True)),
            ("Event id", code(event.event_id)),
            ("Correlation id", event.correlation_id and self._correlated(event.correlation_id)),
            ("Causation id", event.causation_id and code(event.causation_id)),
            ("User", self._user(request, event)),
        ]

    def _user(self, request: HttpRequest, event: StoredEvent) -> str:
        stored = StoredEvent.objects.using(conf.settings().database).filter(pk=event.pk)
        user: str = stored.values_list(KT("metadata__user"), flat=True).first() or ""
        if user and "user" in self.hidden_keys(request, event):
            return MASK
        return shown_user(user, names_of([user])) if user else ""

    def _correlated(self, correlation_id: str) -> SafeString:
        url = reverse("admin:es_django_storedevent_changelist", current_app=self.admin_site.name)
        query = urlencode({"q": correlation_id})
        return format_html('{} <a href="{}?{}">All events of this correlation</a>', code(correlation_id), url, query)

    def hidden_keys(self, request: HttpRequest, event: StoredEvent) -> frozenset[str]:
        return hidden_keys(request, event.type)

    def page_context(self, request: HttpRequest, event: StoredEvent) -> dict[str, Any]:
        from es_django.admin.causation import causation_of
        from es_django.admin.decoded_event import decode_event

        beside = StoredEvent.objects.using(conf.settings().database).filter(
            stream_id=event.stream_id, version__in=(event.version - 1, event.version + 1)
        )
        causation = causation_of(event)
        positions = dict(beside.values_list("version", "position"))
        return {
            **super().page_context(request, event),
            "previous": positions.get(event.version - 1),
            "next": positions.get(event.version + 1),
            "decoded": decode_event(event, limit=MAX_DOCUMENT_CHARACTERS, hidden=self.hidden_keys(request, event)),
            "causation": causation,
            "tree": self._shown(request, event, causation.root),
        }

    def _shown(self, request: HttpRequest, current: StoredEvent, node: "Node") -> ShownNode:
        row, effects = node.row, [self._shown(request, current, effect) for effect in node.effects]
        if isinstance(row, StoredEvent):
            is_current = row.pk == current.pk
            link = row.type if is_current else self.link(request, StoredEvent, row.pk, row.type)
            place = timeline_query(row.version)
            stream = self.link(request, Stream, row.stream_id, f"{row.stream} at version {row.version}", query=place)
            details = [stream, time_element(row.recorded_at, precise=True)]
            return ShownNode("Event", link, details, "", is_current, effects)
        if not self.may_see(request, OutboxMessage):
            return ShownNode("Message", "(you may not view messages)", [], "", False, effects)
        attempts = f"attempts {row.attempts}" if row.attempts > 1 else ""
        details = [status_badge(row.status), format_html("{} {}", *step_of(row)), attempts]
        link, error = self.link(request, OutboxMessage, row.pk, row), error_shown(request, row.last_error)
        return ShownNode("Message", link, details, error, False, effects)
