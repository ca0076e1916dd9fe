"""Admin pages of streams and snapshots."""

from collections.abc import Iterator, Mapping
from functools import partial, reduce
from operator import or_
from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from es_django import conf
from es_django.admin.base import Fact, ReadOnlyAdmin
from es_django.admin.categories import SEARCHED_CATEGORIES, stored_categories
from es_django.admin.filters import ColumnFilter
from es_django.admin.html import time_element
from es_django.admin.masking import hidden_keys
from es_django.admin.timeline import Timeline
from es_django.core.aggregates import categories
from es_django.models import Snapshot, StoredEvent, Stream

LISTED_CATEGORIES = 50


class CategoryFilter(ColumnFilter):
    """A filter by category. It offers the first categories; a search by name finds any other category."""

    title: str = "category"
    parameter_name = "category"

    def offered_values(self) -> list[tuple[str, str]]:
        return [(name, name) for name in stored_categories(conf.settings().database, LISTED_CATEGORIES)]


@admin.register(Stream)
class StreamAdmin(ReadOnlyAdmin[Stream]):
    list_display: tuple[str, ...] = ("category", "key", "version", "updated", "archived")
    list_display_links: tuple[str, ...] = ("key",)
    list_filter: ClassVar[tuple[type[admin.ListFilter], ...]] = (CategoryFilter,)
    ordering: ClassVar[tuple[str, ...]] = ("category", "key")
    search_help_text: ClassVar[str] = "Search by complete key, by category, or by category and key."
    page_template = "es_django/admin/stream.html"

    @admin.display(description="updated")
    def updated(self, stream: Stream) -> SafeString:
        return time_element(stream.updated_at)

    @admin.display(description="archived")
    def archived(self, stream: Stream) -> SafeString | None:
        return time_element(stream.archived_at) if stream.archived_at else None

    def search_lookups(self, term: str) -> Iterator[Q]:
        # The index begins with the category, so a search for a key alone makes one look-up for each category.
        categories = stored_categories(conf.settings().database, SEARCHED_CATEGORIES)
        for text in dict.fromkeys((term, term.strip())):
            yield Q(category__in=categories, key=text)
            names = [(category, text.removeprefix(f"{category} ")) for category in categories]
            if pairs := [Q(category=category, key=key) for category, key in names if key != text]:
                yield reduce(or_, pairs)
        yield Q(category=term.strip())

    def facts(self, request: HttpRequest, stream: Stream) -> list[Fact]:
        snapshots = Snapshot.objects.using(conf.settings().database).filter(stream=stream).only("version")
        links = [
            (self.link(request, Snapshot, each.pk, f"at version {each.version}"),)
            for each in snapshots.order_by("-version")
        ]
        state_url = self._state_url(request, stream)
        return [
            ("Version", stream.version),
            ("Created", time_element(stream.created_at)),
            ("Updated", time_element(stream.updated_at)),
            ("Archived", time_element(stream.archived_at) if stream.archived_at else None),
            ("State", state_url and format_html('<a href="{}">at any version</a>', state_url)),
            ("Snapshots", format_html_join(", ", "{}", links)),
        ]

    def page_context(self, request: HttpRequest, stream: Stream) -> dict[str, Any]:
        if not self.may_see(request, StoredEvent):
            return {"timeline": None}
        return {
            "timeline": Timeline(stream, request.GET, partial(hidden_keys, request)),
            "state_url": self._state_url(request, stream),
        }

    # The page that shows the state at any version

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.state_view)
        return [path("<path:object_id>/state/", view, name="es_django_stream_state"), *super().get_urls()]

    def state_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the state of the aggregate at the version `at` in the URL, by default at the last version."""
        from es_django.admin.time_travel import TimeTravel

        stream = self.visible_object(request, object_id)
        if not self.may_see(request, StoredEvent):
            raise PermissionDenied
        aggregate = categories.aggregate_of(stream.category)
        if aggregate is None:
            raise Http404(f"The category {stream.category} does not belong to exactly one aggregate class.")
        travel = TimeTravel(aggregate, stream, request.GET, hidden_keys(request))
        events = StoredEvent.objects.using(conf.settings().database).defer("data", "metadata")
        event = events.filter(stream=stream, version=travel.at).first()
        event_facts = event and [
            ("Event", self.link(request, StoredEvent, event.pk, event.type)),
            ("Recorded", time_element(event.recorded_at, precise=True)),
        ]
        return self.page(request, stream, "es_django/admin/state.html", travel=travel, facts=event_facts or [])

    def _state_url(self, request: HttpRequest, stream: Stream) -> str:
        if categories.aggregate_of(stream.category) is None or not self.may_see(request, StoredEvent):
            return ""
        return reverse("admin:es_django_stream_state", args=[stream.pk], current_app=self.admin_site.name)


@admin.register(Snapshot)
class SnapshotAdmin(ReadOnlyAdmin[Snapshot]):
    list_display: tuple[str, ...] = ("stream", "version", "schema", "taken")
    list_select_related: ClassVar[tuple[str, ...]] = ("stream",)
    ordering: ClassVar[tuple[str, ...]] = ("-id",)
    documents: ClassVar[Mapping[str, str]] = {"state": "State"}

    @admin.display(description="taken")
    def taken(self, snapshot: Snapshot) -> SafeString:
        return time_element(snapshot.taken_at)

    def facts(self, request: HttpRequest, snapshot: Snapshot) -> list[Fact]:
        return [
            ("Stream", self.link(request, Stream, snapshot.stream_id, snapshot.stream)),
            ("Version", snapshot.version),
            ("Schema", snapshot.schema),
            ("Taken", time_element(snapshot.taken_at)),
        ]
