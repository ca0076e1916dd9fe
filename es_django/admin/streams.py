"""Streams: found by category and key, and shown with their events."""

from collections.abc import Iterator, Mapping
from functools import partial, reduce
from operator import or_
from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from es_django import conf
from es_django.admin.base import Fact, ReadOnlyAdmin
from es_django.admin.categories import stored_categories
from es_django.admin.filters import ColumnFilter
from es_django.admin.html import moment
from es_django.admin.masking import hidden_keys
from es_django.admin.timeline import Timeline
from es_django.core.aggregates import categories
from es_django.models import Snapshot, StoredEvent, Stream

LISTED_CATEGORIES = 50
SEARCHED_CATEGORIES = 1000


class CategoryFilter(ColumnFilter):
    """Offers the first categories; any other one is found by searching its name."""

    title: str = "category"
    parameter_name = "category"

    def offered(self) -> list[tuple[str, str]]:
        return [(name, name) for name in stored_categories(conf.settings().database, LISTED_CATEGORIES)]


@admin.register(Stream)
class StreamAdmin(ReadOnlyAdmin[Stream]):
    list_display: tuple[str, ...] = ("category", "key", "version", "updated", "archived")
    list_display_links: tuple[str, ...] = ("key",)
    list_filter: ClassVar[tuple[type[admin.ListFilter], ...]] = (CategoryFilter,)
    ordering: ClassVar[tuple[str, ...]] = ("category", "key")
    search_help_text: ClassVar[str] = "A stream's whole key, or its category and key, or a category."
    page_template = "es_django/admin/stream.html"

    @admin.display(description="updated")
    def updated(self, stream: Stream) -> SafeString:
        return moment(stream.updated_at)

    @admin.display(description="archived")
    def archived(self, stream: Stream) -> SafeString | None:
        return moment(stream.archived_at) if stream.archived_at else None

    def readings(self, term: str) -> Iterator[Q]:
        # The index leads with the category, so that a key alone is looked up in each of them.
        categories = stored_categories(conf.settings().database, SEARCHED_CATEGORIES)
        for text in dict.fromkeys((term, term.strip())):
            yield Q(category__in=categories, key=text)
            names = [(category, text.removeprefix(f"{category} ")) for category in categories]
            if pairs := [Q(category=category, key=key) for category, key in names if key != text]:
                yield reduce(or_, pairs)
        yield Q(category=term.strip())

    def facts(self, request: HttpRequest, stream: Stream) -> list[Fact]:
        snapshot = Snapshot.objects.using(conf.settings().database).filter(stream=stream).only("version").first()
        state_url = self._state_url(request, stream)
        return [
            ("Version", stream.version),
            ("Created", moment(stream.created_at)),
            ("Updated", moment(stream.updated_at)),
            ("Archived", moment(stream.archived_at) if stream.archived_at else None),
            ("State", state_url and format_html('<a href="{}">at any version</a>', state_url)),
            ("Snapshot", snapshot and self.link(request, Snapshot, snapshot.pk, f"at version {snapshot.version}")),
        ]

    def page_context(self, request: HttpRequest, stream: Stream) -> dict[str, Any]:
        if not self.may_see(request, StoredEvent):
            return {"timeline": None}
        return {
            "timeline": Timeline(stream, request.GET, partial(hidden_keys, request)),
            "state_url": self._state_url(request, stream),
        }

    # The page of the state at any version

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.state_view)
        return [path("<path:object_id>/state/", view, name="es_django_stream_state"), *super().get_urls()]

    def state_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What the stream's aggregate was at a version: `at` in the URL, or the last one."""
        from es_django.admin.time_travel import TimeTravel

        stream = self.visible_object(request, object_id)
        if not self.may_see(request, StoredEvent):
            raise PermissionDenied
        aggregate = categories.aggregate_of(stream.category)
        if aggregate is None:
            raise Http404(f"No one aggregate class has the category {stream.category}.")
        travel = TimeTravel(aggregate, stream, request.GET, hidden_keys(request))
        events = StoredEvent.objects.using(conf.settings().database).defer("data", "metadata")
        event = events.filter(stream=stream, version=travel.at).first()
        told = event and [
            ("Event", self.link(request, StoredEvent, event.pk, event.type)),
            ("Recorded", moment(event.recorded_at, precise=True)),
        ]
        return self.page(request, stream, "es_django/admin/state.html", travel=travel, facts=told or [])

    def _state_url(self, request: HttpRequest, stream: Stream) -> str:
        if categories.aggregate_of(stream.category) is None or not self.may_see(request, StoredEvent):
            return ""
        return reverse("admin:es_django_stream_state", args=[stream.pk], current_app=self.admin_site.name)


@admin.register(Snapshot)
class SnapshotAdmin(ReadOnlyAdmin[Snapshot]):
    list_display: tuple[str, ...] = ("stream", "version", "schema", "taken")
    list_select_related: ClassVar[tuple[str, ...]] = ("stream",)
    ordering: ClassVar[tuple[str, ...]] = ("-stream_id",)
    documents: ClassVar[Mapping[str, str]] = {"state": "State"}

    @admin.display(description="taken")
    def taken(self, snapshot: Snapshot) -> SafeString:
        return moment(snapshot.taken_at)

    def facts(self, request: HttpRequest, snapshot: Snapshot) -> list[Fact]:
        return [
            ("Stream", self.link(request, Stream, snapshot.stream_id, snapshot.stream)),
            ("Version", snapshot.version),
            ("Schema", snapshot.schema),
            ("Taken", moment(snapshot.taken_at)),
        ]
