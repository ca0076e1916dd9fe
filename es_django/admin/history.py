"""A History page for your own admin that shows the events of an object's stream."""

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from es_django import conf
from es_django.admin.base import may_see
from es_django.admin.masking import hidden_keys
from es_django.admin.timeline import Timeline
from es_django.core.errors import InvalidStreamId
from es_django.core.streams import StreamId
from es_django.models import StoredEvent, Stream

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = object


class EventHistoryMixin(ModelAdmin):
    """A mixin that shows the events of an object's stream on its History page, above Django's own log.

    List it before `admin.ModelAdmin` among the base classes, and define `event_stream`. Users without
    the permission to view events and streams see only Django's log.
    """

    # ModelAdmin, the other base class, declares a wider type.
    object_history_template: ClassVar[Any] = "es_django/admin/event_history.html"

    def event_stream(self, obj: Any) -> StreamId | None:
        """Return the stream of an object, or None if it has none.

        If this method raises `InvalidStreamId`, the page shows the reason instead of events.
        """
        raise NotImplementedError(f"{type(self).__name__} must define event_stream(obj), returning a StreamId or None")

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        obj = self.get_object(request, unquote(object_id))
        shows_events = (
            obj is not None
            and self.has_view_or_change_permission(request, obj)
            and all(may_see(self.admin_site, request, model) for model in (Stream, StoredEvent))
        )
        events = self._events_of(request, obj) if shows_events else {}
        return super().history_view(request, object_id, {**events, **(extra_context or {})})

    def _events_of(self, request: HttpRequest, obj: Model | None) -> dict[str, Any]:
        try:
            identity = self.event_stream(obj)
        except InvalidStreamId as error:
            self.message_user(request, f"No events are shown: {error}.", messages.ERROR)
            return {}
        if identity is None:
            return {}
        if not isinstance(identity, StreamId):
            raise TypeError(f"{type(self).__name__}.event_stream must return a StreamId or None, not {identity!r}")
        streams = Stream.objects.using(conf.settings().database)
        stream = streams.filter(category=identity.category, key=identity.key).first()
        if stream is None:
            return {}
        return {
            "stream": stream,
            "stream_url": reverse("admin:es_django_stream_change", args=[stream.pk], current_app=self.admin_site.name),
            "timeline": Timeline(stream, request.GET, partial(hidden_keys, request)),
        }
